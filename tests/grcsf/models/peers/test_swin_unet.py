import json
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from grcsf.complexity import paper_counts, parameter_count, true_macs
from grcsf.losses import mixed_loss
from grcsf.models.peers.swin_unet import PatchExpanding, SwinUnet, reference_state

SMALL = {"input_size": (64, 64), "width": 12, "depths": (2, 2, 2, 2), "heads": (1, 2, 4, 8)}


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return SwinUnet(**SMALL | {"window": 2} | changes)


def slices(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def timm_swin():
    """timm's Swin transformer of the small network's sizes, in evaluation mode."""
    torch.manual_seed(5)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64,
        window_size=2,
        embed_dim=12,
        depths=SMALL["depths"],
        num_heads=SMALL["heads"],
        num_classes=7,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def as_microsoft(state):
    """Merging at the end of a stage instead of the next one's start; masks and indices stored."""
    moved = {
        re.sub(r"^layers\.(\d)\.down", lambda m: f"layers.{int(m[1]) - 1}.down", key): value
        for key, value in state.items()
    }
    buffers = {
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 4, 4),
        "layers.0.blocks.1.attn.relative_position_index": torch.zeros(4, 4, dtype=torch.int64),
    }
    return {"model": moved | buffers}


def test_parameters_are_those_of_the_paper():
    with torch.device("meta"):
        paper, large = SwinUnet(), SwinUnet(input_size=(512, 512), window=8)
    state = paper.state_dict()
    assert parameter_count(paper) == 41_380_068
    assert len(state) == 322
    assert tuple(state["layers_up.1.upsample.expand.weight"].shape) == (768, 384)
    assert tuple(state["concat_back_dim.1.weight"].shape) == (384, 768)
    assert tuple(state["up.expand.weight"].shape) == (1536, 96)
    assert tuple(state["output.weight"].shape) == (1, 96, 1, 1)
    assert "output.bias" not in state
    assert parameter_count(large) == 41_392_836


def test_multiply_accumulates_are_those_of_the_paper():
    with torch.device("meta"):
        network, image = SwinUnet().eval(), torch.rand(1, 1, 224, 224)
    assert true_macs(network, image) == pytest.approx(8.9048e9, rel=1e-5)
    pytest.importorskip("thop")
    macs, counted = paper_counts(network, image)
    assert macs == pytest.approx(8.6929e9, rel=1e-5)
    assert counted == 41_341_536


def test_output_is_that_of_the_published_network(shared_dir):
    folder = shared_dir / "peers" / "swinunet"
    if not folder.is_dir():
        pytest.skip(f"no published outputs: {folder} does not exist")
    facts, arrays = json.loads((folder / "small.json").read_text()), np.load(folder / "small.npz")
    network = small(input_size=(128, 128), depths=(2, 2, 4, 2), window=4, inputs=2).eval()
    public = load_file(folder / "small.safetensors")
    state = reference_state(network, public)
    # its three channels differ: ours are the first, repeated, and two maps
    colours = public["patch_embed.proj.weight"]
    none = torch.zeros_like(colours[:, :2])
    state["patch_embed.proj.weight"] = torch.cat([colours[:, :1], none, colours[:, 1:]], dim=1)
    network.load_state_dict(state)
    image, expected = (torch.from_numpy(arrays[key]) for key in ("input", "output0"))
    with torch.inference_mode():
        logits = network(image[:, :1], image[:, 1:])
    assert (logits - expected).abs().max() / expected.std() < facts["tolerance_in_std"]


def test_a_token_spreads_to_rows_and_then_columns():
    expanding = PatchExpanding(2, 2, 1)
    expanding.norm = torch.nn.Identity()
    with torch.no_grad():  # token (a, b) → a, a + b, b, 0
        expanding.expand.weight.copy_(torch.tensor([[1.0, 0], [1, 1], [0, 1], [0, 0]]))
    tokens = torch.tensor([[[[1.0, 2.0], [5.0, 7.0]]]])  # one row of two
    spread = expanding(tokens)[0, :, :, 0]
    assert spread.tolist() == [[1, 3, 5, 12], [2, 0, 7, 0]]


def test_gradient_reaches_every_parameter():
    network = small(inputs=1, drop_path=0.0)
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


def test_stochastic_depth_rises_over_the_encoder_and_mirrors_in_the_decoder():
    network = small(depths=(2, 2, 4, 2), drop_path=0.9)

    def rates(stage):
        return [getattr(block.drop_path1, "drop_prob", 0.0) for block in stage.blocks]

    down = [rate for stage in network.layers for rate in rates(stage)]
    assert down == pytest.approx([block / 10 for block in range(10)])
    up = [rates(stage) for stage in list(network.layers_up)[1:]]
    assert up == [rates(network.layers[stage]) for stage in (2, 1, 0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (512, 512), "window": 7}, "multiples of 224 pixels, found 512×512"),
        ({"input_size": (64, 32)}, "multiples of 64 pixels, found 64×32"),
        ({"heads": (5, 2, 4, 8)}, "5 heads do not divide 12 channels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_larger_slices_are_refused():
    with pytest.raises(ValueError, match="up to 64×64 pixels, found 64×65"):
        small()(torch.zeros(1, 1, 64, 65))


@pytest.mark.parametrize("layout", ["timm", "microsoft"])
def test_published_encoder_gives_its_features(timm_swin, layout):
    public = timm_swin.state_dict()
    network = small().eval()
    state = reference_state(network, public if layout == "timm" else as_microsoft(public))
    network.load_state_dict(state)
    seen = []
    network.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    image = slices(2, 1, 64, 64)
    with torch.inference_mode():
        network(image)
        expected = timm_swin.forward_features(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(seen[0], expected)


def test_published_encoder_fills_the_decoder_s_blocks_too(timm_swin):
    network = small()
    state = reference_state(network, timm_swin.state_dict())
    for key, value in network.state_dict().items():
        found = re.match(r"layers_up\.(\d)\.blocks\.(.*)", key)
        if found:
            twin = f"layers.{3 - int(found[1])}.blocks.{found[2]}"
            assert torch.equal(state[key], timm_swin.state_dict()[twin]), key
            assert state[key].data_ptr() != state[twin].data_ptr(), key
        elif key.startswith(("layers_up.", "concat_back_dim.", "norm_up.", "up.", "output.")):
            assert torch.equal(state[key], value), key


def test_further_input_channels_stay_beside_published_ones(timm_swin):
    network, key = small(inputs=2), "patch_embed.proj.weight"
    first = reference_state(network, timm_swin.state_dict())[key]
    assert torch.equal(first[:, :3], timm_swin.state_dict()[key])
    assert torch.equal(first[:, 3:], network.state_dict()[key][:, 3:])


def test_tables_of_other_windows_are_resized(timm_swin):
    public = timm_swin.state_dict()
    key = "layers.0.blocks.1.attn.relative_position_bias_table"
    rows = torch.arange(3.0)[:, None].expand(3, 3).reshape(9, 1)  # grows by row alone
    network = small(input_size=(128, 128), window=4)
    table = reference_state(network, public | {key: rows})[key].reshape(7, 7)
    torch.testing.assert_close(table, table[:, :1].expand(7, 7))
    assert (table[1:, 0] > table[:-1, 0]).all()
    assert float(table[3, 0]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_weights_of_another_network_are_refused(timm_swin, whole):
    network = small()
    public = network.state_dict() if whole else timm_swin.state_dict()
    lacking = {key: value for key, value in public.items() if key != "norm.bias"}
    with pytest.raises(ValueError, match=r"1 missing \(norm.bias\)"):
        reference_state(network, lacking)
    with pytest.raises(ValueError, match=r"1 unexpected \(stem\)"):
        reference_state(network, public | {"stem": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"norm.bias \(3,\) instead of \(96,\)"):
        reference_state(network, public | {"norm.bias": torch.zeros(3)})
