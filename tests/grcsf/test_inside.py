"""What is shown of a network is what it computes."""

import pytest
import torch

from grcsf.inside import look_inside
from grcsf.models.build import GlobalUnits, RegionalUnits, build_segmentation_model

RCU = RegionalUnits(patch_sizes=(4, 4, 8))


@pytest.fixture
def image():
    return torch.rand(1, 1, 40, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def residuals():
    return torch.rand(1, 2, 40, 32, generator=torch.Generator().manual_seed(2))


def build(name="grcsf", **options):
    torch.manual_seed(0)
    return build_segmentation_model(name, width=4, input_size=(40, 32), **options).eval()


def test_maps_of_every_level_at_their_scales(image, residuals):
    network = build(rcu=RCU)
    actual = look_inside(network, image, residuals)
    # the slice is padded to a multiple of 16: (48, 32)
    scales = {level: (48 // 2**level, 32 // 2**level) for level in range(4)}
    assert {
        level: tuple(level_map.shape) for level, level_map in actual.similarity.items()
    } == scales
    assert all(
        level_map.abs().max() <= 1 and level_map.std() > 0
        for level_map in actual.similarity.values()
    )
    patches = {0: 8, 1: 4, 2: 4}
    assert sorted(actual.importance) == sorted(patches)
    for level, side in patches.items():
        scores = actual.importance[level]
        assert tuple(scores.shape) == scales[level]
        inside_patch = torch.arange(scores.shape[0]) // side * side
        torch.testing.assert_close(scores, scores[inside_patch])
        assert len(scores.unique()) > 1
    assert all(
        0 < level_map.min() <= level_map.max() < 1 for level_map in actual.importance.values()
    )
    assert {level: tuple(level_map.shape) for level, level_map in actual.attended.items()} == {
        level: (2, *scales[level]) for level in (0, 1, 2)
    }
    with torch.inference_mode():
        torch.testing.assert_close(actual.logits, network(image, residuals)[0, 0])


def test_scores_stand_where_their_patches_are(image, residuals):
    network = build(rcu=RegionalUnits((1,), (7,)))  # a grid of 4 x 3 patches over 24 x 16 pixels
    kept = []
    score = network.rcus["1"].importance
    with score.register_forward_hook(lambda _m, _given, out: kept.append(out[0, :, 0])):
        actual = look_inside(network, image, residuals).importance[1]
    assert actual.shape == (24, 16)
    for row, column in ((0, 0), (6, 7), (7, 13), (23, 15)):
        assert actual[row, column] == kept[0][(row // 7) * 3 + column // 7]


def test_attention_is_that_of_the_unit(image, residuals):
    network = build(rcu=RegionalUnits((0,), (8,), importance=False))
    actual = look_inside(network, image, residuals)
    assert actual.importance == {}
    kept = []
    with network.rcus["0"].register_forward_hook(lambda _m, given, out: kept.append((given, out))):
        network(image, residuals)
    (features, _), out = kept[0]
    added = torch.linalg.vector_norm((out - features)[0], dim=0)
    # map weights are 1 at the start: what both maps add is at most as long as both together
    assert (added <= actual.attended[0].sum(dim=0) + 1e-4).all()
    assert added.max() > 0


@pytest.mark.parametrize("kind", ["se", "attention_gate", "pyramid"])
def test_other_kinds_of_units_show_their_gates(image, kind):
    actual = look_inside(build(gcu=GlobalUnits(kind), rcu=None), image, None)
    assert sorted(actual.similarity) == [0, 1, 2, 3]
    assert actual.attended == {}


def test_a_network_without_units_shows_its_logits(image):
    actual = look_inside(build("unet"), image, None)
    assert actual.logits.shape == (40, 32)
    assert (actual.similarity, actual.importance, actual.attended) == ({}, {}, {})


def test_nothing_stays_behind(image, residuals):
    network = build(rcu=RCU)
    look_inside(network, image, residuals)
    assert not any(module._forward_hooks for module in network.modules())


def test_one_slice_in_evaluation_mode(image):
    with pytest.raises(ValueError, match="one slice"):
        look_inside(build("unet"), image.repeat(2, 1, 1, 1), None)
    with pytest.raises(ValueError, match="evaluation mode"):
        look_inside(build("unet").train(), image, None)
