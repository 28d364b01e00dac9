"""SPiN against its authors' network, its counts, and what it promises of its own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grcsf.complexity import paper_counts, parameter_count, shapes_only, true_macs
from grcsf.losses import cross_entropy_loss
from grcsf.models.peers.spin import SPiN, reference_state

SMALL = {
    "embedding": 4,
    "subpixels": 2,
    "guidance": 3,
    "encoder": (4, 8, 8, 12, 12),
    "decoder": (12, 8, 8, 4, 4, 4),
    "downsampler": (4, 4),
}


@pytest.fixture(scope="module")
def reference():
    """The folder of inputs and outputs of the authors' network, or a skip."""
    checkout = Path(__file__).resolve().parents[4]
    folder = Path(os.environ.get("GRCSF_SHARED", checkout.parent / "shared")) / "peers" / "spin"
    if not folder.is_dir():
        pytest.skip(
            f"no outputs of the authors' network: {folder} does not exist (set GRCSF_SHARED)"
        )
    return folder


def small(inputs=0):
    torch.manual_seed(0)
    return SPiN(inputs, **SMALL)


def logits_at_twice_the_size(network):
    """A list that every forward pass adds to."""
    found = []
    network.head.register_forward_hook(lambda *called: found.append(called[-1]))
    return found


@pytest.mark.parametrize("suffix", ["", "_odd"])
def test_outputs_are_those_of_the_authors_network(reference, suffix):
    network = small()
    network.load_state_dict(reference_state(network, load_file(reference / "small.safetensors")))
    arrays = np.load(reference / "small.npz")
    tolerance = json.loads((reference / "small.json").read_text("utf-8"))["tolerance_in_std"]
    twice = logits_at_twice_the_size(network)
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(arrays[f"input{suffix}"]))
    for number, found in enumerate([*twice, logits]):
        expected = torch.from_numpy(arrays[f"output{number}{suffix}"])
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= tolerance * expected.std()


def test_counts_are_those_of_table_1():
    with shapes_only():
        network = SPiN().eval()
        image = torch.rand(1, 5, 224, 224)
    assert parameter_count(network) == 5_165_984
    assert f"{true_macs(network, image) / 1e9:.4f}" == "6.1419"
    pytest.importorskip("thop")
    macs, parameters = paper_counts(network, image)
    assert f"{macs / 1e9:.4f}" == "6.2273"
    assert parameters == 5_165_984


def test_no_convolution_has_a_bias_and_the_downsampler_no_norm():
    state = small().state_dict()
    biases = {name.rsplit(".", 1)[0] for name in state if name.endswith("bias")}
    norms = {name.rsplit(".", 1)[0] for name in state if name.endswith("running_mean")}
    assert biases == norms
    assert not any(name.startswith("downsampler") for name in norms)


def test_each_logit_lies_between_those_of_its_four_subpixels():
    network = small().eval()
    twice = logits_at_twice_the_size(network)
    with torch.inference_mode():
        logits = network(torch.rand(2, 5, 45, 37))
    assert twice[0].shape == (2, 1, 90, 74)
    blocks = torch.nn.functional.pixel_unshuffle(twice[0], 2)
    assert (logits >= blocks.amin(1, keepdim=True) - 1e-6).all()
    assert (logits <= blocks.amax(1, keepdim=True) + 1e-6).all()


def test_every_slice_matters_and_so_does_its_place():
    network, image = small().eval(), torch.rand(1, 5, 40, 33)
    with torch.inference_mode():
        logits = network(image)
        for channel in range(5):
            other = image.clone()
            other[:, channel] = 0
            assert not torch.equal(network(other), logits)
        assert not torch.equal(network(image.flip(1)), logits)
    with pytest.raises(ValueError, match=r"\(B, 5, h, w\) \(a slice and 2 neighbours"):
        network(image[:, :1])


@pytest.mark.parametrize("maps", [0, 2])
@pytest.mark.parametrize("size", [(61, 53), (64, 64)])
def test_a_training_step_reaches_every_parameter(size, maps):
    network = small(maps)
    image, residuals = torch.rand(2, 5, *size), torch.rand(2, 2, *size)
    [(weight, logits)] = network.supervised(image, residuals if maps else None)
    cross_entropy_loss(logits, (image[:, 2:3] > 0.8).float()).backward()
    assert weight == 1
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("size", [(45, 37), (1, 5)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_constant_slice_of_any_size_in_half_precision_is_finite(value, size):
    network = small().eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(torch.full((1, 5, *size), value))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()


def test_maps_are_channels_of_both_branches_and_public_weights_leave_them(reference):
    network = small(inputs=2).eval()
    firsts = [network.embedding.first[0].weight, network.encoder.first[0].weight]
    public = load_file(reference / "small.safetensors")
    state = reference_state(network, public)
    network.load_state_dict(state)
    image, maps = torch.rand(1, 5, 32, 32), torch.rand(1, 2, 32, 32)
    narrow = small().eval()
    narrow.load_state_dict(reference_state(narrow, public))
    with torch.no_grad():
        assert not torch.equal(network(image, maps), network(image, maps.flip(1)))
        for first in firsts:
            assert first.shape[1] == 7
            assert first[:, 5:].any()
            first[:, 5:] = 0
        torch.testing.assert_close(network(image, maps), narrow(image))


def test_the_authors_file_has_a_state_dict_for_each_part(reference):
    public, parts = load_file(reference / "small.safetensors"), {"train_step": 3}
    for name, value in public.items():
        part, _, rest = name.partition(".")
        parts.setdefault(f"{part}_state_dict", {})[rest] = value
    whole = reference_state(small(), public)
    joined = reference_state(small(), {**parts, "optimizer_state_dict": {"state": {}}})
    assert all(torch.equal(joined[name], value) for name, value in whole.items())


def test_weights_of_another_network_are_refused(reference):
    public = load_file(reference / "small.safetensors")
    assert len(public) == 243
    del public["decoder_segmentation.output.conv.weight"]
    public["decoder_segmentation.other"] = torch.ones(1)
    message = r"fit SPiN: 1 missing \(head.weight\); 1 unexpected \(decoder_segmentation.other\)"
    with pytest.raises(ValueError, match=message):
        reference_state(small(), public)
