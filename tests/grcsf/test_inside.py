"""What is shown of a network is what it computes."""

import pytest
import torch

from grcsf.inside import look_inside
from grcsf.models.build import GlobalUnits, RegionalUnits, build_segmentation_model


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, maps, 40, 32, generator=generator) for maps in (1, 2)]


def build(name="grcsf", **options):
    torch.manual_seed(0)
    return build_segmentation_model(name, width=4, input_size=(40, 32), **options).eval()


def test_maps_of_every_level_at_their_scales(inputs):
    network = build(rcu=RegionalUnits(patch_sizes=(4, 4, 8)))
    actual = look_inside(network, *inputs)
    # the slice is padded to a multiple of 16: (48, 32)
    scales = {level: (48 // 2**level, 32 // 2**level) for level in range(4)}
    assert {level: tuple(similar.shape) for level, similar in actual.similarity.items()} == scales
    for similar in actual.similarity.values():
        assert similar.abs().max() <= 1
        assert similar.std() > 0
    assert sorted(actual.importance) == sorted(actual.attended) == [0, 1, 2]
    for level, side in enumerate((8, 4, 4)):
        scores = actual.importance[level]
        assert tuple(scores.shape) == scales[level]
        inside_patch = torch.arange(scores.shape[0]) // side * side
        torch.testing.assert_close(scores, scores[inside_patch])
        assert len(scores.unique()) > 1
        assert 0 < scores.min() <= scores.max() < 1
        assert tuple(actual.attended[level].shape) == (2, *scales[level])
    with torch.inference_mode():
        torch.testing.assert_close(actual.logits, network(*inputs)[0, 0])
    assert not any(module._forward_hooks for module in network.modules()), "nothing stays behind"


def test_scores_stand_where_their_patches_are(inputs):
    network = build(rcu=RegionalUnits((1,), (7,)))  # a grid of 4 x 3 patches over 24 x 16 pixels
    kept = []
    score = network.rcus["1"].importance
    with score.register_forward_hook(lambda _m, _given, out: kept.append(out[0, :, 0])):
        actual = look_inside(network, *inputs).importance[1]
    assert actual.shape == (24, 16)
    for row, column in ((0, 0), (6, 7), (7, 13), (23, 15)):
        assert actual[row, column] == kept[0][(row // 7) * 3 + column // 7]


def test_attention_is_that_of_the_unit(inputs):
    network = build(rcu=RegionalUnits((0,), (8,), importance=False))
    actual = look_inside(network, *inputs)
    assert actual.importance == {}
    kept = []
    with network.rcus["0"].register_forward_hook(lambda _m, given, out: kept.append((given, out))):
        network(*inputs)
    (features, _), out = kept[0]
    added = torch.linalg.vector_norm((out - features)[0], dim=0)
    # map weights are 1 at the start: what both maps add is at most as long as both together
    assert (added <= actual.attended[0].sum(dim=0) + 1e-4).all()
    assert added.max() > 0


@pytest.mark.parametrize("kind", ["se", "attention_gate", "pyramid", None])
def test_other_kinds_of_units_show_their_gates_and_none_the_logits_alone(inputs, kind):
    network = build(gcu=GlobalUnits(kind), rcu=None) if kind else build("unet")
    actual = look_inside(network, inputs[0], None)
    assert sorted(actual.similarity) == ([0, 1, 2, 3] if kind else [])
    assert (actual.importance, actual.attended) == ({}, {})
    assert actual.logits.shape == (40, 32)


def test_one_slice_in_evaluation_mode(inputs):
    with pytest.raises(ValueError, match="one slice"):
        look_inside(build("unet"), inputs[0].repeat(2, 1, 1, 1), None)
    with pytest.raises(ValueError, match="evaluation mode"):
        look_inside(build("unet").train(), inputs[0], None)
