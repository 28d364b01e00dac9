import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from grcsf.complexity import paper_counts, parameter_count, shapes_only
from grcsf.losses import mixed_loss
from grcsf.models.peers.ut_net import UTNet, reference_state
from grcsf.models.peers.ut_net_attention import CellAttention

SMALL = {"blocks": (1, 1, 2, 2), "heads": 2, "reduced": 4}


def network(seed=0, **options):
    torch.manual_seed(seed)
    return UTNet(4, **SMALL | options)


@pytest.fixture
def reference(shared_dir):
    folder = shared_dir / "peers" / "utnet"
    if not folder.is_dir():
        pytest.skip(f"no reference outputs: {folder} does not exist (set GRCSF_SHARED)")
    return folder


def test_counts_are_those_of_table_1():
    pytest.importorskip("thop")
    with shapes_only():
        model, image = UTNet().eval(), torch.rand(1, 1, 256, 256)
    assert parameter_count(model) == 80_786_249
    assert len(model.state_dict()) == 489
    macs, counted = paper_counts(model, image)
    assert round(macs / 1e9, 2) == 81.83
    assert counted == 80_770_949


def test_auxiliary_heads_are_899_parameters():
    with torch.device("meta"):
        difference = parameter_count(UTNet(auxiliary=True)) - parameter_count(UTNet())
    assert difference == 899


def test_parts_have_the_published_shapes():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in UTNet().state_dict().items()}
    assert shapes["encoder.3.2.project.1.weight"] == (3072, 1024, 1, 1)
    assert shapes["decoder.2.attention_block.project_low.1.weight"] == (1024, 1024, 1, 1)
    tables = [shape for key, shape in shapes.items() if key.endswith("table")]
    assert tables == [(15**2, 4)] * 17


@pytest.mark.parametrize(("name", "auxiliary"), [("small", False), ("small_aux", True)])
def test_values_are_the_published_code_s(name, auxiliary, reference):
    model = network(auxiliary=auxiliary).eval()
    model.load_state_dict(reference_state(model, load_file(reference / f"{name}.safetensors")))
    expected = np.load(reference / f"{name}.npz", allow_pickle=False)
    tolerance = json.loads((reference / f"{name}.json").read_text())["tolerance_in_std"]
    image = torch.from_numpy(expected["input"])
    with torch.inference_mode():
        outputs = model.supervised(image)
        assert torch.equal(model(image), outputs[0][1])
    assert len(outputs) == (4 if auxiliary else 1)
    for number, (_, logits) in enumerate(outputs):  # full scale, then 1/2, 1/4, 1/8
        wanted = expected[f"output{number}"]
        assert np.abs(logits.numpy() - wanted).max() <= tolerance * wanted.std()


def test_each_pixel_attends_to_cells_and_heads_are_interleaved():
    torch.manual_seed(0)
    attention = CellAttention(channels=4, heads=2, reduced=2, dropout=0.1).eval()
    attention.output = torch.nn.Identity()
    attention.table.data.normal_()
    query, key, value = torch.rand(3, 1, 4, 4, 6)
    resize = {"size": (2, 2), "mode": "bilinear", "align_corners": True}
    keys, values = (F.interpolate(each, **resize)[0].flatten(1) for each in (key, value))
    expected = torch.empty(4, 4, 6)
    for head in range(2):
        for row in range(4):
            for column in range(6):
                own = (row // 2, column // 3)
                scores = torch.stack(
                    [
                        query[0, head::2, row, column] @ keys[head::2, 2 * down + right]
                        + attention.table[(own[0] - down + 1) * 3 + own[1] - right + 1, head]
                        for down in range(2)
                        for right in range(2)
                    ]
                )
                weights = (scores / 2**0.5).softmax(0)  # two channels a head
                expected[head::2, row, column] = values[head::2] @ weights
    torch.testing.assert_close(attention(query, key, value)[0], expected)


def test_loss_weights_fall_with_the_scale():
    model = network(auxiliary=True)
    outputs = model.supervised(torch.rand(2, 1, 64, 64))
    assert [weight for weight, _ in outputs] == [1, 0.4, 0.2, 0.1]
    assert {logits.shape for _, logits in outputs} == {(2, 1, 64, 64)}
    assert len(network().supervised(torch.rand(2, 1, 64, 64))) == 1


def test_gradient_reaches_every_parameter():
    model = network(auxiliary=True)
    image = torch.rand(2, 1, 64, 64)
    outputs = model.supervised(image)
    sum(weight * mixed_loss(logits, (image > 0.8).float()) for weight, logits in outputs).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if parameter.ndim >= 2:
            assert parameter.grad.any(), key


@pytest.mark.parametrize("size", [(61, 53), (64, 128), (130, 40), (1, 5)])
def test_sizes_are_free_and_a_slice_may_be_alone(size):
    with torch.inference_mode():
        logits = network().eval()(torch.rand(1, 1, *size))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()


def test_sides_are_padded_to_sixteen_times_the_cells():
    assert network().size_multiple == 64
    with torch.device("meta"):
        assert UTNet().size_multiple == 128


@pytest.mark.parametrize("autocast", [False, True])
def test_black_slices_give_finite_values_and_gradients(autocast):
    model = network(auxiliary=True)
    image = torch.zeros(2, 1, 64, 64)
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


def test_auxiliary_heads_may_be_in_one_of_file_and_network_alone():
    with_heads, without = network(auxiliary=True), network()
    state = reference_state(without, with_heads.state_dict())
    assert state.keys() == without.state_dict().keys()
    state = reference_state(with_heads, without.state_dict())
    name = "auxiliary.0.weight"
    assert torch.equal(state[name], with_heads.state_dict()[name])
    assert torch.equal(state["head.weight"], without.state_dict()["head.weight"])


def test_weights_of_single_slices_fill_a_network_that_sees_more():
    alone, wide = network().eval(), network(1, inputs=2).eval()
    wide.see_neighbours(1)
    state = reference_state(wide, alone.state_dict())
    wide.load_state_dict(state)
    for name in ("first.0.conv1.weight", "first.0.shortcut.2.weight"):
        assert state[name][:, 1:].all()  # as the network starts
        wide.get_parameter(name).data[:, 1:] = 0
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(wide(image), alone(image[:, 1:2]))


def test_other_weights_are_refused():
    model = network()
    with pytest.raises(ValueError, match=r"UTNet: \d+ missing \(first\.0.*; 1 unexpected \(conv1"):
        reference_state(model, {"conv1.weight": torch.zeros(1)})
    two_classes = model.state_dict() | {"head.weight": torch.ones(2, 4, 1, 1)}
    with pytest.raises(ValueError, match=r"1 mis-shaped \(head\.weight \(2, 4, 1, 1\) instead"):
        reference_state(model, two_classes)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="multiple of 3 heads, found 4"):
        UTNet(4, heads=3)
