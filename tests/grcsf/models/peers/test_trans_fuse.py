import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grcsf.complexity import paper_counts, parameter_count, shapes_only
from grcsf.losses import mixed_loss
from grcsf.models.peers.trans_fuse import TransFuse, reference_state

SMALL = {
    "input_size": (64, 64),
    "stem": 8,
    "bottlenecks": (4, 8, 16),
    "stages": (1, 1, 1),
    "tokens": 24,
    "blocks": 2,
    "heads": 3,
}


def network(seed=0, **options):
    torch.manual_seed(seed)
    return TransFuse(**SMALL | options)


def part(model, prefix):
    state = model.state_dict()
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


@pytest.fixture
def reference(shared_dir):
    folder = shared_dir / "peers" / "transfuse"
    if not folder.is_dir():
        pytest.skip(f"no reference outputs: {folder} does not exist (set GRCSF_SHARED)")
    return folder


@pytest.fixture
def expected(reference):
    return np.load(reference / "small.npz", allow_pickle=False)


def test_counts_are_those_of_table_1():
    pytest.importorskip("thop")
    with shapes_only():
        model, image = TransFuse().eval(), torch.rand(1, 1, 224, 224)
    assert parameter_count(model) == 143_543_093
    macs, counted = paper_counts(model, image)
    assert round(macs / 1e9, 4) == 63.3967
    assert counted == 143_392_565


def test_parts_have_the_published_shapes():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in TransFuse().state_dict().items()}
    assert shapes["fusions.0.shortcut.weight"] == (1024, 2816, 1, 1)
    assert shapes["joint_ups.0.path.0.weight"] == (512, 1536, 3, 3)
    assert shapes["fusions.2.channel.0.weight"] == (256, 256, 1, 1)
    assert shapes["transformer.pos_embed"] == (1, 196, 768)


def test_branches_are_named_as_torchvision_s_resnet_and_timm_s_deit():
    import timm
    from torchvision.models import resnet50

    with torch.device("meta"):
        model = TransFuse()
        resnet = resnet50(weights=None).state_dict()
        deit = timm.create_model(
            "deit_base_patch16_224", num_classes=0, class_token=False, global_pool=""
        ).state_dict()
    resnet = {key: value for key, value in resnet.items() if not key.startswith(("layer4", "fc"))}
    for prefix, public in (("cnn.", resnet), ("transformer.", deit)):
        ours = {key: value.shape for key, value in part(model, prefix).items()}
        assert ours == {key: value.shape for key, value in public.items()}


def test_values_are_the_published_code_s(reference, expected):
    model = network().eval()
    model.load_state_dict(reference_state(model, load_file(reference / "small.safetensors")))
    tolerance = json.loads((reference / "small.json").read_text())["tolerance_in_std"]
    with torch.inference_mode():
        outputs = model.maps(torch.from_numpy(expected["input"]))  # whose channels differ
    for (_, logits), name in zip(outputs, ("output2", "output1", "output0"), strict=True):
        wanted = expected[name]
        assert np.abs(logits.numpy() - wanted).max() <= tolerance * wanted.std(), name


def test_loss_weights_give_the_published_sum(expected):
    outputs = network().supervised(torch.rand(2, 1, 64, 64))
    losses = reversed(expected["structure_losses"])
    total = sum(weight * loss for (weight, _), loss in zip(outputs, losses, strict=True))
    assert total == pytest.approx(float(expected["total_loss"]))


def test_the_first_output_is_the_prediction():
    model, image = network().eval(), torch.rand(2, 1, 61, 53)
    with torch.inference_mode():
        outputs = model.supervised(image)
        assert torch.equal(outputs[0][1], model(image))
    assert [weight for weight, _ in outputs] == [0.5, 0.3, 0.2]
    assert {logits.shape for _, logits in outputs} == {(2, 1, 61, 53)}


def test_gradient_reaches_every_parameter():
    model = network()
    image = torch.rand(2, 1, 64, 64)
    outputs = model.supervised(image)
    sum(weight * mixed_loss(logits, (image > 0.8).float()) for weight, logits in outputs).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if parameter.ndim >= 2:
            assert parameter.grad.any(), key


@pytest.mark.parametrize("size", [(64, 64), (61, 53), (1, 5)])
def test_smaller_slices_are_padded_and_a_slice_may_be_alone(size):
    model, image = network().eval(), torch.rand(1, 1, *size)
    padded = torch.zeros(1, 1, 64, 64)
    padded[..., : size[0], : size[1]] = image
    with torch.inference_mode():
        assert torch.equal(model(image), model(padded)[..., : size[0], : size[1]])


def test_larger_slices_are_refused():
    with pytest.raises(ValueError, match="up to 64×64 pixels, found 65×10"):
        network()(torch.rand(1, 1, 65, 10))


def test_the_size_it_is_built_for_is_free():
    model = network(input_size=(33, 96)).eval()
    assert model.input_size == (48, 96)
    with torch.inference_mode():
        assert model(torch.rand(1, 1, 33, 96)).shape == (1, 1, 33, 96)
    with torch.device("meta"):
        large = TransFuse(input_size=(512, 512))
    assert large.transformer.pos_embed.shape == (1, 32 * 32, 768)


@pytest.mark.parametrize("autocast", [False, True])
def test_black_slices_give_finite_values_and_gradients(autocast):
    model, image = network(), torch.zeros(2, 1, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        outputs = model.supervised(image)
    sum(mixed_loss(logits, image) for _, logits in outputs).backward()
    assert all(logits.isfinite().all() for _, logits in outputs)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_bfloat16_autocast_is_near_float32():
    model, image = network().eval(), torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = model(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(image)
    assert (logits - expected).abs().mean() < 0.1 * expected.std()


def test_residual_maps_may_follow_the_image():
    model = network(inputs=2).eval()
    image, residuals = torch.rand(2, 1, 64, 64), torch.rand(2, 2, 64, 64)
    with torch.inference_mode():
        assert not torch.equal(model(image, residuals), model(image, 1 - residuals))
        with pytest.raises(ValueError, match="needs residual maps"):
            model(image)


def test_a_resnet_fills_the_cnn_and_a_deit_the_transformer():
    source, model = network(seed=1), network(seed=2, inputs=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    old = {key: value for key, value in part(source, "cnn.").items() if "num_batches" not in key}
    resnet = old | {"layer4.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}
    deit = part(source, "transformer.") | {"cls_token": torch.ones(1, 1, 24)}
    deit["pos_embed"] = torch.cat([torch.full((1, 1, 24), 9.0), deit["pos_embed"]], dim=1)
    model.load_state_dict(reference_state(model, resnet))
    model.load_state_dict(reference_state(model, {"model": deit}))
    for key, value in model.state_dict().items():
        given = source.state_dict()[key]
        if not key.startswith(("cnn.", "transformer.")):
            assert torch.equal(value, before[key]), key
        elif given.shape == value.shape:
            assert torch.equal(value, given), key
        else:  # first convolutions, whose further channel stays as it was
            assert torch.equal(value[:, :3], given), key
            assert torch.equal(value[:, 3:], before[key][:, 3:]), key


def test_a_table_of_positions_is_resized_to_the_grid():
    model = network(input_size=(48, 80))
    deit = part(network(), "transformer.")
    ramp = torch.arange(4.0).expand(4, 4)  # a token's column
    deit["pos_embed"] = ramp.reshape(1, 16, 1).expand(1, 16, 24)
    state = reference_state(model, deit)
    wanted = torch.linspace(0, 3, 5).expand(3, 5)  # the corner tokens keep their centres
    torch.testing.assert_close(state["transformer.pos_embed"][0, :, 0].reshape(3, 5), wanted)


def test_other_weights_are_refused():
    model = network()
    resnet, deit = part(model, "cnn."), part(model, "transformer.")
    with pytest.raises(ValueError, match=r"fit TransFuse's cnn: \d+ missing \(cnn\.bn1\.weight"):
        reference_state(model, {"conv1.weight": resnet["conv1.weight"]})
    with pytest.raises(ValueError, match=r"TransFuse's transformer: 1 unexpected .*\.dist_token"):
        reference_state(model, deit | {"dist_token": torch.ones(1, 1, 24)})
    for name in ("patch_embed.proj.weight", "pos_embed"):
        with pytest.raises(ValueError, match=rf"1 mis-shaped \(transformer\.{name} \(1,\) instead"):
            reference_state(model, deit | {name: torch.ones(1)})
    whole = {"resnet.conv1.weight": resnet["conv1.weight"], "up_d.W": torch.ones(1)}
    with pytest.raises(ValueError, match=r"fit TransFuse: \d+ missing .* 1 unexpected \(up_d\.W\)"):
        reference_state(model, whole)


def test_heads_must_divide_a_token_s_channels():
    with pytest.raises(ValueError, match="5 heads do not divide 24"):
        network(heads=5)
