"""Counts by hand on small layers, and the paper's own counts on whole networks."""

from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grcsf.complexity import (
    kept_for_backward,
    paper_counts,
    parameter_count,
    peak_memory,
    shapes_only,
    true_macs,
)
from grcsf.losses import mixed_loss
from grcsf.models.build import build_segmentation_model
from grcsf.models.rcu import ImportanceScore, RegionalCompensationUnit


class Attention(nn.Module):
    """One head of width 8 over 5 tokens, with a bare parameter."""

    def __init__(self):
        super().__init__()
        self.query, self.gate = nn.Linear(8, 8), nn.Parameter(torch.ones(3))

    def forward(self, tokens):
        return F.scaled_dot_product_attention(self.query(tokens), tokens, tokens)


def test_convolution_by_hand():
    layer, image = nn.Conv2d(3, 4, 3, padding=1), torch.rand(2, 3, 5, 7)
    assert parameter_count(layer) == 4 * 3 * 9 + 4
    assert true_macs(layer, image) == 2 * 4 * 5 * 7 * 3 * 9


def test_attention_counts_its_products_and_bare_parameters_only_truly():
    network, tokens = Attention(), torch.rand(2, 5, 8)
    projection, products = 2 * 5 * 8 * 8, 2 * (5 * 5 * 8 + 5 * 5 * 8)
    assert true_macs(network, tokens) == projection + products
    assert parameter_count(network) == 8 * 8 + 8 + 3
    pytest.importorskip("thop")
    assert paper_counts(network, tokens) == (projection, 8 * 8 + 8)


def test_thop_counts_a_transposed_convolution_fourfold():
    pytest.importorskip("thop")
    layer, image = nn.ConvTranspose2d(6, 3, 2, stride=2), torch.rand(1, 6, 4, 4)
    true = 4 * 4 * 6 * 3 * 4  # each of 4 × 4 pixels writes 2 × 2 outputs of 3 channels from 6
    assert true_macs(layer, image) == true
    assert paper_counts(layer, image)[0] == 4 * true


def test_counting_leaves_the_network_as_it_was():
    pytest.importorskip("thop")
    network = build_segmentation_model("unetpp", width=2)
    before = list(network.state_dict())
    paper_counts(network, torch.rand(1, 1, 16, 16))
    assert list(network.state_dict()) == before
    assert network.training


@pytest.mark.parametrize(
    ("name", "true", "macs", "parameters"),
    [
        ("unet", "36.82", "41.85", 31_036_481),
        ("unetpp", "105.46", "106.10", 36_628_481),
        ("grcsf", "116.49", "123.10", 42_848_104),  # less 3 · 3 bare scalars
    ],
)
def test_true_macs_and_counts_of_table_1_by_the_paper_s_counter(name, true, macs, parameters):
    # UNet: the paper's 41.85 G less 0.10 G of normalisation and three quarters of what thop says of
    # four transposed convolutions, 3 · 4 · 0.411 G. UNet++: 106.10 G less 0.64 G of normalisation
    # and upsampling. GRCSF: 123.10 G less 3 · 8 · 0.411 G (two transposed convolutions a GCU) and
    # 0.66 G of normalisation, pooling and upsampling, and 3.90 G of attention on top.
    with shapes_only():
        network = build_segmentation_model(name).eval()
        inputs = torch.rand(1, 1, 224, 224), torch.rand(1, 2, 224, 224)
    assert f"{true_macs(network, *inputs) / 1e9:.2f}" == true
    pytest.importorskip("thop")
    counted = paper_counts(network, *inputs)
    assert f"{counted[0] / 1e9:.2f}" == macs
    assert counted[1] == parameters


def test_peak_memory_by_hand():
    values = torch.zeros(2**20)  # 4 MiB

    def run():
        return (values + 1).exp_() * values  # two results live at once, the third never is

    # the scalar's few bytes come and go
    assert 0 <= peak_memory(run, torch.device("cpu")) - 2 * 2**22 < 1024


def test_what_a_product_keeps_for_backward():
    left, right = torch.rand(4, 5, requires_grad=True), torch.rand(5, 6)
    kept = kept_for_backward(lambda: (left.exp() @ right).sum(), [left, right])
    assert [(tensor.shape, tensor.size) for tensor in kept] == [((4, 5), 4 * 5 * 4)]
    everything = kept_for_backward(lambda: (left.exp() @ right).sum(), [])
    assert sorted(tensor.shape for tensor in everything) == [(4, 5), (5, 6)]


def test_views_of_one_memory_count_once():
    values = torch.rand(8, requires_grad=True)

    def run():
        activated = values.exp()  # 32 bytes, kept by itself and by both factors
        return (activated[:4] * activated[4:]).sum()

    assert [one.size for one in kept_for_backward(run, [values])] == [32]


def training_step(width, count, size):
    """GRCSF, what is there before a training step, and the step's forward pass in bfloat16."""
    network = build_segmentation_model("grcsf", width=width)
    image, maps = torch.rand(count, 1, size, size), torch.rand(count, 2, size, size)
    target = torch.zeros(count, 1, size, size)

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image, maps)
        return mixed_loss(logits, target)

    owned = [*network.parameters(), *network.buffers(), image, maps, target]
    return network, owned, run


def test_what_is_kept_without_content_is_what_is_kept_with_it():
    kept = []
    for context in (nullcontext(), shapes_only(as_on_cpu=True)):
        with context:
            _, owned, run = training_step(width=8, count=2, size=64)
        # one number a channel of batch norm's has another type where there is no content
        tensors = (tensor for tensor in kept_for_backward(run, owned) if len(tensor.shape) > 1)
        kept.append(Counter(tensors))
    assert kept[0] == kept[1]
    assert kept[0].total() > 100


def test_an_rcu_at_full_scale_keeps_fourteen_token_maps():
    # On paper, docs/reference/complexity.md: for each of two maps the lifted map, query, key,
    # value, attended and scaled tokens; once U's tokens, and the sum that the importance weighs.
    with shapes_only(as_on_cpu=True):
        unit = RegionalCompensationUnit(64, 16, ImportanceScore(64, 16, 64))
        features = torch.rand(21, 64, 224, 224, dtype=torch.bfloat16, requires_grad=True)
        maps = torch.rand(21, 2, 224, 224)

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return unit(features, maps).sum()

    kept = kept_for_backward(run, [*unit.parameters(), features, maps])
    token_map = 21 * 224 * 224 * 64 * 2
    assert [one.size for one in kept if one.size >= token_map] == 14 * [token_map]
    assert sum(one.size for one in kept if one.size < token_map) < token_map


def test_a_step_of_21_slices_at_full_width_fits_into_24_gb():
    with shapes_only(as_on_cpu=True):
        network, owned, run = training_step(width=64, count=21, size=224)
    kept = sum(one.size for one in kept_for_backward(run, owned))
    assert kept == pytest.approx(13.72e9, rel=0.01)
    states = 4 * 4 * parameter_count(network)  # float32 weights, gradients, Adam's two moments
    # what comes and goes while the gradients flow was measured at 0.8 GB
    assert kept + states + 1e9 < 24e9
