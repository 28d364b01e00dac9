import json
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from grcsf.complexity import paper_counts, parameter_count, true_macs
from grcsf.losses import mixed_loss
from grcsf.models.peers.group_norm_resnet import GroupNormResNet, StandardisedConv
from grcsf.models.peers.trans_unet import TransUnet
from grcsf.models.peers.trans_unet_weights import reference_state

HEADS = 4
SMALL = {
    "input_size": (64, 64),
    "width": 32,
    "depth": 2,
    "heads": HEADS,
    "mlp_ratio": 2.0,
    "resnet_width": 32,
    "units": (2, 2, 1),
    "decoder": (16, 16, 8, 8),
}


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return TransUnet(**SMALL | {"first": 24} | changes)


def slices(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def encoder_of(network):
    """Our names and values of the encoder, with positions that are not all zero."""
    own = {key: value for key, value in network.state_dict().items() if "decoder" not in key}
    own |= {"pos_embed": slices(1, network.grid[0] * network.grid[1], 32, seed=9)}
    return {key: value for key, value in own.items() if not key.startswith("head.")}


def with_class_token(positions):
    return torch.cat([torch.full_like(positions[:, :1], 7.0), positions], dim=1)


def as_archive(state):
    """Our encoder as the published NumPy archive stores it."""
    archive = {"cls": np.zeros((1, 1, 32)), "head/kernel": np.zeros((32, 5))}
    for key, value in state.items():
        name = re.sub(
            r"^resnet\.stages\.(\d+)\.(\d+)\.",
            lambda found: f"block{int(found[1]) + 1}/unit{int(found[2]) + 1}/",
            key,
        )
        for ours, theirs in [
            ("resnet.stem.conv", "conv_root"),
            ("resnet.stem.norm", "gn_root"),
            ("downsample.conv", "conv_proj"),
            ("downsample.norm", "gn_proj"),
            ("/norm", "/gn"),
            ("patch_embed", "embedding"),
            ("pos_embed", "Transformer/posembed_input/pos_embedding"),
            ("attn.proj", "MultiHeadDotProductAttention_1/out"),
            ("mlp.fc1", "MlpBlock_3/Dense_0"),
            ("mlp.fc2", "MlpBlock_3/Dense_1"),
            ("norm1", "LayerNorm_0"),
            ("norm2", "LayerNorm_2"),
        ]:
            name = name.replace(ours, theirs)
        name = re.sub(r"^blocks\.(\d+)\.", r"Transformer/encoderblock_\1/", name)
        name = re.sub(r"^norm\.", "Transformer/encoder_norm/", name)
        name = re.sub(r"\.(?=weight|bias)", "/", name)
        if ".attn.qkv." in key:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                full = name.replace("attn.qkv", f"MultiHeadDotProductAttention_1/{part}")
                columns = third.T if third.ndim == 2 else third
                axes = columns.unflatten(-1, (HEADS, -1))  # (inputs, heads, d), or (heads, d)
                archive[full.replace("weight", "kernel")] = axes.numpy()
        elif key == "pos_embed":
            archive[name] = with_class_token(value).numpy()
        elif "attn.proj.weight" in key:
            archive[name.replace("weight", "kernel")] = value.T.unflatten(0, (HEADS, -1)).numpy()
        elif value.ndim == 4:
            archive[name.replace("weight", "kernel")] = value.permute(2, 3, 1, 0).numpy()
        elif value.ndim == 2:
            archive[name.replace("weight", "kernel")] = value.T.numpy()
        elif "/gn" in name or name.startswith("gn_"):
            archive[name.replace("weight", "scale")] = value[None, None, None].numpy()
        else:
            archive[name.replace("weight", "scale")] = value.numpy()
    return {name: torch.as_tensor(array) for name, array in archive.items()}


def as_timm(state):
    """Our encoder under the names of timm's hybrid vision transformer."""
    renamed = {"cls_token": torch.zeros(1, 1, 32), "head.weight": torch.zeros(5, 32)}
    for key, value in state.items():
        name = re.sub(r"^resnet\.stages\.(\d+)\.", r"resnet.stages.\1.blocks.", key)
        name = re.sub(r"^patch_embed\.", "patch_embed.proj.", name)
        name = re.sub(r"^resnet\.", "patch_embed.backbone.", name)
        renamed[name] = with_class_token(value) if key == "pos_embed" else value
    return renamed


def test_parameters_are_those_of_the_paper():
    with torch.device("meta"):
        paper, large = TransUnet(), TransUnet(input_size=(512, 512))
    state = paper.state_dict()
    assert parameter_count(paper) == 105_275_921
    assert len(state) == 409 - 12 * 4  # queries, keys and values are one here
    assert tuple(state["decoder.blocks.0.0.weight"].shape) == (256, 1024, 3, 3)
    assert tuple(state["resnet.stages.1.0.downsample.norm.weight"].shape) == (512,)
    assert parameter_count(large) == 105_911_825


def test_multiply_accumulates_are_those_of_the_paper():
    with torch.device("meta"):
        network, image = TransUnet().eval(), torch.rand(1, 1, 224, 224)
    assert true_macs(network, image) == pytest.approx(29.1679e9, rel=1e-5)
    pytest.importorskip("thop")
    macs, counted = paper_counts(network, image)
    assert macs == pytest.approx(24.6700e9, rel=1e-5)
    assert counted == 93_230_545


def test_output_is_that_of_the_published_network(shared_dir):
    folder = shared_dir / "peers" / "transunet"
    if not folder.is_dir():
        pytest.skip(f"no published outputs: {folder} does not exist")
    facts, arrays = json.loads((folder / "small.json").read_text()), np.load(folder / "small.npz")
    network = small(first=512).eval()
    network.load_state_dict(reference_state(network, load_file(folder / "small.safetensors")))
    image, expected = (torch.from_numpy(arrays[key]) for key in ("input", "output0"))
    with torch.inference_mode():
        logits = network(image)
    assert (logits - expected).abs().max() / expected.std() < facts["tolerance_in_std"]


def test_the_pool_leaves_out_a_row_that_only_the_skip_gets_back():
    resnet = GroupNormResNet(1, 32, (1, 1, 1))
    sizes = []
    resnet.stages[0].register_forward_hook(lambda _module, _inputs, out: sizes.append(out.shape))
    with torch.inference_mode():
        stem, skip, *deeper = resnet(slices(1, 1, 224, 224))
    assert tuple(sizes[0]) == (1, 128, 55, 55)
    assert tuple(stem.shape) == (1, 32, 112, 112)
    assert tuple(skip.shape) == (1, 128, 56, 56)
    assert float(skip[..., 55, :].abs().max()) == float(skip[..., 55].abs().max()) == 0
    assert [tuple(each.shape[1:]) for each in deeper] == [(256, 28, 28), (512, 14, 14)]


def test_filters_are_standardised():
    conv = StandardisedConv(1, 1, 3)
    image = slices(1, 1, 5, 5)
    with torch.inference_mode():
        expected = conv(image)
        conv.weight.mul_(3).add_(2)
        torch.testing.assert_close(conv(image), expected, rtol=1e-4, atol=1e-3)
        conv.weight.copy_(torch.tensor([0.0, 0, 0, 0, 9, 0, 0, 0, 0]).reshape(1, 1, 3, 3))
        # mean 1, variance 8
        assert float(conv(torch.ones(1, 1, 3, 3))[0, 0, 1, 1]) == pytest.approx(0, abs=1e-6)
        assert float(conv(torch.ones(1, 1, 1, 1))) == pytest.approx(8 / 8.00001**0.5)


def test_weights_start_as_published():
    network = small()
    mlp = network.blocks[0].mlp
    assert not network.pos_embed.any()
    assert mlp.fc1.bias.abs().max() < 1e-5
    assert mlp.fc1.weight.abs().max() <= (6 / (32 + 64)) ** 0.5  # Xavier's bound


def test_dropout_is_on_tokens_and_mlps_alone():
    network = small(dropout=0.25)
    rates = {
        key: module.p
        for key, module in network.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p
    }
    mlps = {f"blocks.{block}.mlp.drop{layer}": 0.25 for block in (0, 1) for layer in (1, 2)}
    assert rates == {"dropout": 0.25} | mlps


def test_gradient_reaches_every_parameter():
    network = small(inputs=1)
    image, maps = slices(2, 1, 64, 64), slices(2, 1, 64, 64, seed=2)
    mixed_loss(network(image, maps), (image > 0.8).float()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.ndim < 2 or parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("size", [(64, 64), (61, 53), (1, 5)])
def test_smaller_slices_are_padded_with_background(size):
    network = small().eval()
    image = slices(1, 1, *size)
    with torch.inference_mode():
        logits = network(image)
        padded = torch.nn.functional.pad(image, (0, 64 - size[1], 0, 64 - size[0]))
        assert torch.equal(logits, network(padded)[..., : size[0], : size[1]])
    assert logits.shape == (1, 1, *size)


def test_input_size_need_not_be_square():
    network = small(input_size=(32, 64)).eval()
    with torch.inference_mode():
        assert network(slices(1, 1, 30, 64)).shape == (1, 1, 30, 64)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_black_slice_has_finite_logits_and_gradients(autocast):
    network = small()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = network(torch.zeros(1, 1, 64, 64))
    mixed_loss(logits, torch.zeros(1, 1, 64, 64)).backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_bfloat16_is_near_float32():
    network = small().eval()
    image = slices(2, 1, 64, 64)
    with torch.inference_mode():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
    assert (logits - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (64, 60)}, "multiples of 16 pixels, at least 32, found 64×60"),
        ({"input_size": (16, 16)}, "at least 32, found 16×16"),
        ({"heads": 5}, "5 heads do not divide 32 channels"),
        ({"resnet_width": 48}, "ResNet width must be a multiple of 32, found 48"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_larger_slices_are_refused():
    with pytest.raises(ValueError, match="up to 64×64 pixels, found 65×64"):
        small()(torch.zeros(1, 1, 65, 64))


@pytest.mark.parametrize("published", [as_archive, as_timm])
def test_published_encoders_are_read_and_the_decoder_kept(published):
    expected, network = encoder_of(small(seed=1)), small(seed=2)
    state = reference_state(network, published(expected))
    network.load_state_dict(state)
    for key, value in network.state_dict().items():
        own = key.startswith(("decoder.", "head."))
        assert torch.equal(value, state[key] if own else expected[key]), key


def test_timm_s_hybrid_has_all_that_the_encoder_needs():
    public = timm.create_model(
        "vit_base_r50_s16_224", num_classes=3, img_size=64, embed_dim=32, depth=2, num_heads=HEADS
    ).state_dict()
    network = small(resnet_width=64, units=(3, 4, 9), mlp_ratio=4.0)
    state = reference_state(network, public)
    timms = public["patch_embed.backbone.stages.2.blocks.8.conv3.weight"]
    assert torch.equal(state["resnet.stages.2.8.conv3.weight"], timms)


@pytest.mark.parametrize("input_size", [(96, 96), (64, 96)])
def test_positions_of_another_grid_are_resized_corner_to_corner(input_size):
    network = small(input_size=input_size)
    ramp = torch.arange(4.0)[:, None] + 10 * torch.arange(4.0)  # (row, column)
    public = encoder_of(small()) | {"pos_embed": ramp.reshape(1, 16, 1).expand(1, 16, 32)}
    table = reference_state(network, as_timm(public))["pos_embed"]
    rows, columns = network.grid
    expected = torch.linspace(0, 3, rows)[:, None] + 10 * torch.linspace(0, 3, columns)
    torch.testing.assert_close(table[0, :, 5].reshape(rows, columns), expected)


def test_maps_start_without_weight_beside_published_ones():
    public, alone, network = as_timm(encoder_of(small(seed=1))), small().eval(), small(inputs=2)
    alone.load_state_dict(reference_state(alone, public))
    rest = {key: value for key, value in alone.state_dict().items() if "stem" not in key}
    network.load_state_dict(reference_state(network, public) | rest)
    image, maps = slices(1, 1, 64, 64), slices(1, 2, 64, 64, seed=3)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(image, maps), alone(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("published", [as_archive, as_timm])
def test_weights_of_another_network_are_refused(published):
    network = small()
    public = published(encoder_of(network))
    norm = "Transformer/encoder_norm/bias" if "conv_root/kernel" in public else "norm.bias"
    lacking = {key: value for key, value in public.items() if key != norm}
    with pytest.raises(ValueError, match=r"1 missing \(norm.bias\)"):
        reference_state(network, lacking)
    with pytest.raises(ValueError, match=r"1 unexpected \(fc\)"):
        reference_state(network, public | {"fc": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"norm.bias \(3,\) instead of \(32,\)"):
        reference_state(network, public | {norm: torch.zeros(3)})


def test_weights_of_no_such_network_are_refused():
    with pytest.raises(ValueError, match=r"do not fit TransUnet's encoder: .* missing"):
        reference_state(small(), {"conv1.weight": torch.zeros(2, 3, 7, 7)})
