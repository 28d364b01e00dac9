"""Commands about networks, of experiments without a training: refused or left out, with a word."""

import json
import logging

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.planning.network_costs import configured_methods
from pipeline.planning.rates import SHIPPED, load_rates
from pipeline.settings.reading import validate
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.tools.plan.plan import plan
from pipeline.tools.plan.table import as_records, table
from pipeline.tools.submission import submission

SHAPE = (10, 8, 6)
UNET = {"model": "unet", "width": 4}
SAM = {"model": "sam", "prompts": "unet", "checkpoint": "random"}
UNTRAINED = ("sam", "given")


@pytest.fixture
def config(tmp_path):
    """Seven cases of ten slices, a trained network, SAM and given predictions."""
    lines = []
    for index in range(7):
        grid = Geometry(SHAPE, (1.0, 1.0, 1.0))
        write_volume(tmp_path / f"{index}.nii.gz", np.ones(SHAPE, np.uint8), grid)
        lines.append(f"case{index},{index}.nii.gz,{index}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(["case,image,label", *lines]) + "\n")
    dataset = {
        "source": {"adapter": "manifest", "root": str(tmp_path)},
        "slices": {"size": [32, 32], "percentiles": [0, 100]},
        "split": {"test": 1, "validation": 1},
        "experiments": {"unet": UNET, "sam": SAM, "given": {"predictions": str(tmp_path)}},
    }
    content = {"results": str(tmp_path / "results"), "datasets": {"own": dataset}}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("command", ["export", "explain", "train-segmentation"])
@pytest.mark.parametrize(
    ("name", "what"), [("sam", "SAM, whose weights are given"), ("given", "given predictions")]
)
def test_what_needs_a_trained_network_is_refused_in_one_line(config, tmp_path, command, name, what):
    arguments = [command, "--config", str(config), "--dataset", "own", "--experiment", name]
    arguments += {"export": ["--output", str(tmp_path / "out.zip")], "explain": ["case0"]}.get(
        command, []
    )
    with pytest.raises(PipelineError) as raised:
        app(arguments, standalone_mode=False)
    (line,) = str(raised.value).splitlines()
    found = f"experiments.{name}: found {what}, expected a network that is trained here, to "
    assert line.startswith(found)
    assert not (tmp_path / "out.zip").exists()


def test_costs_are_those_of_the_trained_network_and_a_word_tells_of_the_others(config, caplog):
    settings = validate(json.loads(config.read_text("utf-8")), "test")
    with caplog.at_level(logging.INFO):
        methods = configured_methods(settings.datasets["own"])
    assert [method.name for method in methods] == ["unet"]
    assert "sam is left out: SAM, whose weights are given" in caplog.text
    assert "given is left out: given predictions" in caplog.text


def test_a_plan_has_no_training_of_them_and_says_whose_hours_are_missing(config):
    settings = validate(json.loads(config.read_text("utf-8")), "test")
    rates = {"cpu": load_rates(SHIPPED, "cpu")}
    (with_hours,), (without,) = plan(settings, rates), plan(settings)
    jobs = {stage: part.jobs for stage, part in with_hours.stages.items()}
    assert (jobs["train_segmentation"], jobs["predict"], jobs["evaluate"]) == (1, 3, 3)
    told = "hours of predict without sam (SAM): it sees only slices"
    assert told in table([with_hours], rates)
    assert told not in table([without], {})
    assert "left_out" in json.loads(as_records([with_hours], rates))["datasets"][0]
    content = json.loads(config.read_text("utf-8"))
    for name in UNTRAINED:
        del content["datasets"]["own"]["experiments"][name]
    (alone,) = plan(validate(content, "test"), rates)
    assert alone.stages["predict"].hours == with_hours.stages["predict"].hours
    assert "left_out" not in json.loads(as_records([alone], rates))["datasets"][0]


@pytest.mark.parametrize(
    ("name", "experiment", "message"),
    [
        ("sam", {**SAM, "checkpoint": "away.pth"}, "checkpoint: away.pth: away.pth: not there"),
        ("given", {"predictions": "away"}, "predictions: away: found nothing there, expected a f"),
        ("peer", {"model": "ut_net", "pretrained": "a.pth"}, "pretrained: a.pth: not there; it t"),
    ],
)
def test_a_plan_refuses_what_is_not_there_as_the_workflow_does(config, name, experiment, message):
    content = json.loads(config.read_text("utf-8"))
    content["datasets"]["own"]["experiments"][name] = experiment
    with pytest.raises(PipelineError, match=rf"experiments\.{name}\.{message}"):
        plan(validate(content, "test"))


def test_a_submission_of_given_masks_names_the_scans_without_one(results_tree, tmp_path):
    image = np.full(SHAPE, 40, np.int16)
    for case in ("TEV1P1", "TEV2P3"):
        results_tree.add_case(case, image, suffix=".mhd")
    results_tree.write_split([[]])
    masks = results_tree.layout.masks("given", 1)
    masks.parent.mkdir(parents=True)
    masks.write_text('{"cases": {}, "outputs": []}')
    with pytest.raises(PipelineError) as raised:
        submission(results_tree.layout, "given", 1, tmp_path / "out")
    lines = str(raised.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["case TEV1P1", "case TEV2P3"]
    assert "where predictions are given after adding its file" in lines[0]
