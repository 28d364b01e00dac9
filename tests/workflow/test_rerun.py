"""What runs again after a change, and what does not: every stage's outputs pretend to be there."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.configuration import merge
from pipeline.layout import Layout

CHECKOUT = Path(__file__).parents[2]
LAYOUT = Layout(Path("results"), "images")
ALL = {
    "ingest images",
    "split images",
    "train_mae images: m50",
    "train_mae images: m75",
    "residual_maps images: mrm, batch 1of1",
    "train_segmentation images: unet++, subset 1",
    "train_segmentation images: grcsf, subset 1",
    "predict images: unet++, subset 1",
    "predict images: grcsf, subset 1",
    "postprocess images: unet++, subset 1",
    "postprocess images: grcsf, subset 1",
    "evaluate images: unet++",
    "evaluate images: grcsf",
    "compare images",
    "report images",
}
LAST = {"compare images", "report images"}
EVALUATE = {job for job in ALL if job.startswith("evaluate")} | LAST
POSTPROCESS = {job for job in ALL if job.startswith("postprocess")} | EVALUATE
PREDICT = {job for job in ALL if job.startswith("predict")} | POSTPROCESS
GRCSF = {job for job in ALL if "grcsf" in job} | LAST
RESIDUALS = {"residual_maps images: mrm, batch 1of1"} | GRCSF


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_project, new_config):
    """A project that has run, with a checkout of its own."""
    folder = tmp_path_factory.mktemp("finished")
    for part in ("workflow", "pipeline", "grcsf", "envs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / part, folder / "checkout" / part, ignore=ignored)
    project = new_project(folder, folder / "checkout")
    project.write_images("atlas", 3)
    project.configure(new_config("atlas"))
    summary = project.call("--summary", "--configfile", "config.yaml")
    outputs = re.findall(r"^(results/\S+)\t", summary.output, re.MULTILINE)
    assert len(outputs) == len(ALL) + 3  # evaluate twice and compare write two files each
    for output in outputs:
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"outputs": []}))
    done = project.call("--touch", "--forceall", "--cores", "1", "--configfile", "config.yaml")
    assert done.code == 0, done.output
    return project


@pytest.fixture
def again(finished, new_project, tmp_path):
    """A copy of the finished project, to change."""
    shutil.copytree(finished.folder, tmp_path / "again")
    return new_project(tmp_path / "again", tmp_path / "again" / "checkout")


def changed(project, change: dict) -> set[str]:
    """What is planned after `change` was merged into the configuration."""
    config = yaml.safe_load((project.folder / "config.yaml").read_text("utf-8"))
    project.configure(merge(config, change))
    return set(project.plan().jobs)


def images(**sections: dict) -> dict:
    """A change of the data set's sections."""
    return {"datasets": {"images": sections}}


def test_a_second_call_has_nothing_to_do(again):
    plan = again.plan()
    assert plan.jobs == []
    assert "Nothing to be done" in plan.output


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"cases_per_job": 9, "threads": 1, "memory_mb": 10, "minutes": 3}},
        {"store": {"root": "cache"}},
        images(split={"by": "case"}, experiments={"grcsf": {"width": 64}}),
    ],
    ids=["resources", "store", "defaults written out"],
)
def test_what_decides_no_result_runs_nothing(again, change):
    assert changed(again, change) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (images(mae={"spare": {"epochs": 3}}), {"report images"}),
        (images(evaluation={"bootstrap_samples": 500}), EVALUATE),
        (images(postprocess={"probability": 0.4}), POSTPROCESS),
        (images(experiments={"grcsf": {"training": {"epochs": 3}}}), GRCSF),
        (images(residuals={"mrm": {"preset": "fast"}}), RESIDUALS),
        (images(mae={"m75": {"epochs": 3}}), {"train_mae images: m75"} | RESIDUALS),
        (images(split={"test": 0.4}), ALL - {"ingest images"}),
    ],
    ids=["unused mae", "evaluation", "postprocess", "training", "residuals", "mae", "split"],
)
def test_a_changed_setting_runs_its_stage_and_what_follows(again, change, expected):
    assert changed(again, change) == expected


def test_a_further_experiment_runs_alone(again):
    stages = ("train_segmentation", "predict", "postprocess")
    own = {f"{stage} images: wide, subset 1" for stage in stages} | {"evaluate images: wide"}
    further = images(experiments={"wide": {"model": "unetpp", "width": 96}})
    assert changed(again, further) == own | LAST


def test_a_raised_version_runs_its_stage_and_what_follows(again):
    stage = again.checkout / "pipeline" / "predict.py"
    raised, times = re.subn(
        r"^VERSION = \d+$", "VERSION = 99", stage.read_text("utf-8"), flags=re.M
    )
    assert times == 1
    stage.write_text(raised, "utf-8")
    assert set(again.plan().jobs) == PREDICT


def test_edited_rules_and_environments_run_nothing(again):
    rules = again.checkout / "workflow" / "rules" / "mae.smk"
    rules.write_text(rules.read_text("utf-8").replace("2>&1", "2>&1 "), "utf-8")
    common = rules.with_name("common.smk")
    common.write_text(common.read_text("utf-8").replace("| tee", "|  tee"), "utf-8")
    environment = again.checkout / "envs" / "torch.yaml"
    environment.write_text(environment.read_text("utf-8").replace("torch==", "torch>="), "utf-8")
    assert again.plan().jobs == []


def test_a_touched_image_runs_nothing_and_a_changed_one_everything(again):
    image = next((again.folder / "images").rglob("*_T1w.nii.gz"))
    image.touch()
    assert again.plan().jobs == []
    image.write_bytes(b"other")
    assert set(again.plan().jobs) == ALL


def test_a_new_case_runs_ingest_and_what_follows(again):
    again.write_images("atlas", 4)
    assert set(again.plan().jobs) == ALL


def test_a_vanished_store_runs_its_batch_and_what_follows(again):
    manifest = again.folder / LAYOUT.residual_batch("mrm", "1of1")
    store = again.folder / LAYOUT.residual_store("mrm", "a")
    store.mkdir()
    manifest.write_text(json.dumps({"outputs": [store.name]}))
    again.call("--touch", "--forceall", "--cores", "1", "--configfile", "config.yaml")
    assert again.plan().jobs == []
    store.rmdir()
    plan = again.plan()
    assert set(plan.jobs) == RESIDUALS
    told = f"withdrawn, because what it lists is not there: {manifest.relative_to(again.folder)}"
    assert told in plan.output
