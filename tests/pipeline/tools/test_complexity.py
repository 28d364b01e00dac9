"""`grcsf complexity`: one row a method, with the same counts however they are asked for."""

import json
import logging
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.networks.build import build_network
from pipeline.planning.network_costs import (
    PEER_NETWORKS,
    Method,
    configured_methods,
    paper_methods,
)
from pipeline.settings import residual_count
from pipeline.settings.reading import load_settings
from pipeline.tools.complexity import chosen_methods, complexity, table

DEMO = Path(__file__).parents[3] / "config" / "demo.yaml"
# whose counts, which take seconds each, their own tests compare with Table 1
ELSEWHERE = ("SwinUnet", "TransUnet", "TransFuse", "UTNet", "SAM, image encoder")
TEN = ("UNet", "UNet++", *PEER_NETWORKS, "SAM", "GRCSF")


def call(*arguments):
    return CliRunner().invoke(app, ["complexity", *map(str, arguments)])


@pytest.fixture(scope="module")
def paper_costs():
    methods = [method for method in paper_methods((224, 224)) if method.name not in ELSEWHERE]
    return complexity(methods, repeats=0, gpus=0)


def test_the_paper_s_networks_have_its_parameters(paper_costs):
    assert {cost.method: cost.parameters for cost in paper_costs} == {
        "UNet": 31_036_481,
        "UNet++": 36_628_481,
        "UNet++ with GCU": 42_270_301,
        "GRCSF, patches 8, 8, 16": 42_848_113,
        "GRCSF, patches 4, 8, 16": 42_749_809,
        "GRCSF, patches 8, 4, 16": 42_823_537,
        "GRCSF, patches 8, 8, 8": 42_749_809,
        "GRCSF, patches 8, 16, 16": 42_946_417,
        "DeepLabv3": 39_633_729,
        "SPiN": 5_165_984,
    }


def test_the_table_shows_table_1_s_figures(paper_costs):
    pytest.importorskip("thop")
    lines = table(paper_costs).split("\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    found = {row[0]: row[1:] for row in rows[2:]}
    assert found["UNet"] == ["224×224", "31,036,481", "31,036,481", "36.82", "41.85", "–", "–"]
    assert found["UNet++"][3:5] == ["105.46", "106.10"]
    # nine learnable scalars are no modules, and so not in the paper's count
    assert found["GRCSF, patches 8, 8, 16"][1:5] == ["42,848,113", "42,848,104", "116.49", "123.10"]
    peers = {name: (cells[2], cells[4]) for name, cells in found.items() if name in PEER_NETWORKS}
    assert peers == {
        "DeepLabv3": ("39,633,729", "31.41"),
        "SPiN": ("5,165,984", "6.23"),
    }


def test_all_ten_methods_of_table_1_are_measured():
    names = {method.name.partition(",")[0] for method in paper_methods((224, 224))}
    assert names == {*TEN, "UNet++ with GCU"}
    assert len(TEN) == 10


class Telling(torch.nn.Module):
    """Adds to a file which process runs it; elsewhere than in `parent` it may end that."""

    def __init__(self, path, parent, *, dies):
        super().__init__()
        self.path, self.parent, self.dies = path, parent, dies
        self.layer = torch.nn.Conv2d(1, 1, 1)

    def forward(self, image):
        if self.dies and os.getpid() != self.parent:
            os._exit(1)
        with self.path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self.layer(image)


def telling(path, parent, *, dies=False):
    return Telling(path, parent, dies=dies), (torch.rand(1, 1, 8, 8),)


def test_each_network_is_timed_in_a_process_of_its_own_after_one_warm_up(tmp_path):
    path = tmp_path / "processes"
    methods = [Method(name, (8, 8), partial(telling, path, os.getpid())) for name in "ab"]
    complexity(methods, repeats=3, gpus=0)
    calls = Counter(map(int, path.read_text().split()))
    del calls[os.getpid()]  # which counts
    assert list(calls.values()) == [1 + 3, 1 + 3]


def test_a_process_that_is_ended_is_told_with_its_network(tmp_path):
    build = partial(telling, tmp_path / "processes", os.getpid(), dies=True)
    with pytest.raises(
        PipelineError, match=r"^a at input size \(8, 8\): its process was ended; see"
    ):
        complexity([Method("a", (8, 8), build)], repeats=1, gpus=0)


def test_only_the_methods_that_are_asked_for():
    methods = paper_methods((224, 224))
    chosen = chosen_methods(methods, ["SPiN", "GRCSF", "UNet"], {})
    assert [method.name[:5] for method in chosen] == ["UNet", *["GRCSF"] * 5, "SPiN"]
    one = "GRCSF, patches 8, 4, 16"
    assert [method.name for method in chosen_methods(methods, [one], {})] == [one]
    assert chosen_methods(methods, [], {}) == methods


def test_networks_that_cannot_take_the_size_are_left_out():
    names = [method.name for method in paper_methods((64, 96))]
    assert "SwinUnet" not in names
    assert "TransUnet" in names


def test_a_configuration_s_experiments_and_residual_sets_are_measured():
    torch.set_num_threads(1)
    dataset = load_settings(DEMO).datasets["heart"]
    methods = configured_methods(dataset)
    assert [method.name for method in methods] == [
        *dataset.experiments,
        "residual maps mrm, 6 passes",
    ]
    costs = complexity(methods[1:], repeats=1, gpus=0)
    for cost in costs:
        assert cost.size == dataset.slices.size
        assert cost.seconds > 0
        assert cost.peak_bytes > 4 * cost.parameters  # the weights and what they make of a slice
    grcsf = dataset.experiments["grcsf"]
    network = build_network(grcsf, residual_count(dataset, "grcsf"), dataset.slices)
    assert costs[0].parameters == sum(value.numel() for value in network.parameters())


def test_every_kind_of_network_and_masked_model_is_counted():
    grcsf, one_level = {"model": "grcsf", "width": 4}, {"levels": [1], "patch_sizes": [7]}
    experiments = {
        "mae": {"model": "mae_unet", "width": 4, "mae_encoder": {"mae": "shared"}},
        "mobilenet": {"model": "unetpp", "width": 4, "encoder": "mobilenet"},
        **{
            kind: {**grcsf, "gcu": {"kind": kind}, "rcu": None}
            for kind in ("spatial", "coordinate", "attention_gate", "pyramid")
        },
        "one_level": {**grcsf, "gcu": None, "residuals": "sim", "rcu": one_level},
    }
    maps = [{"mae": "sim", "mask_ratio": 0.6, "passes": 3}]
    residuals = {"sim": {"preset": "fast", "maps": maps}}
    over = {
        "mae": {"shared": {"patch_size": 8}, "sim": {"architecture": "simmim", "preset": "tiny"}},
        "residuals": {**residuals, "cam": {"grad_cam": "unetpp"}},
        "experiments": experiments,
    }
    dataset = load_settings(DEMO, {"datasets": {"heart": over}}).datasets["heart"]
    costs = {cost.method: cost for cost in complexity(configured_methods(dataset), 0, 0)}
    assert set(experiments) < set(costs)
    chosen, encoder = dataset.experiments["mae"], dataset.mae["shared"]
    network = build_network(chosen, 0, dataset.slices, encoder)
    assert costs["mae"].parameters == sum(value.numel() for value in network.parameters())
    # three passes over all 196 patches, masked ones too, of nearly all weights
    simmim = costs["residual maps sim, 3 passes"]
    assert simmim.macs > 3 * 196 * 0.9 * simmim.parameters
    assert all(cost.macs > 0 for cost in costs.values())


def test_json_holds_the_counts_as_they_are(monkeypatch):
    monkeypatch.setattr(
        "pipeline.planning.network_costs.paper_methods", lambda size: paper_methods(size)[:1]
    )
    done = call("--repeats", 0, "--input-size", 64, 96, "--json")
    assert done.exit_code == 0, done.output
    first = json.loads(done.stdout)[0]
    shown = {"method": "UNet", "size": [64, 96], "parameters": 31_036_481, "peak_bytes": None}
    assert first.items() >= shown.items()


def test_without_thop_the_rest_is_shown_and_the_extra_named(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "thop", None)
    with caplog.at_level(logging.WARNING):
        cost, _ = complexity(paper_methods((64, 64))[:2], repeats=0, gpus=0)
    assert (cost.paper_macs, cost.paper_parameters) == (None, None)
    assert cost.macs > 0
    (line,) = caplog.messages
    assert "pip install '.[bench]'" in line
    assert " – " in table([cost])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", DEMO, "--dataset", "heart", "--input-size", 64, 64], "slices.size"),
        (["--config", DEMO], "it has: heart, head"),
        (["--input-size", 16, 224], "found 16 224, expected sides of at least 32 pixels"),
        (["--only", "spin"], "--only: found 'spin'; did you mean 'SPiN'. expected any of UNet, "),
        (["--only", "SwinUnet", "--input-size", 64, 96], "--only SwinUnet: found 64×96, expected"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message):
    done = call(*arguments)
    assert isinstance(done.exception, PipelineError)
    with pytest.raises(PipelineError, match=message):
        raise done.exception
