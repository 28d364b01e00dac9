"""`store.keep: until_predicted`: maps are deleted in the run, and only those made that are read."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline.cli.job import open_jobs
from pipeline.orchestration.changed_results import changed_results
from pipeline.orchestration.maps_read import maps_read
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.layout import Layout
from pipeline.tools.store.inventory import list_stores, store_faults
from pipeline.tools.store.prune import needless
from pipeline.tools.trace.trace import trace
from tests.workflow.changes import PASSES
from tests.workflow.edits import HEAD, MASKS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
GRCSF = ("predict head: grcsf, subset 1", "residual_maps head: mrm, batch 1of1")


@pytest.fixture(scope="module")
def project(finished, new_project, tmp_path_factory):
    """The finished project, whose maps a further call has given back; every test leaves it so."""
    folder = tmp_path_factory.mktemp("given-back") / "project"
    subprocess.run(["cp", "-a", finished.folder, folder], check=True)
    project = new_project(folder)
    project.change("store.keep", "until_predicted")
    done = project.run(MASKS)
    assert "given back, as no job of the plan reads them any more: 5 stores" in done.output
    assert "0 to make" in done.output, "those that were there served"
    return project


@pytest.fixture
def layout(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    assert maps() == []
    return HEAD


def maps() -> list[Path]:
    return sorted(HEAD.stage("residual_maps").rglob("*.zarr"))


def planned(project) -> list[str]:
    plan = project.call(MASKS, "-n", "--configfile", "config.yaml")
    assert plan.code == 0, plan.output
    return plan.jobs


def predicted(layout: Layout) -> dict[str, str]:
    """Digest of each mask."""
    cases = read_json(layout.masks("grcsf", 1))["cases"]
    return {case: file_digest(layout.mask("grcsf", 1, case, ".nii.gz")) for case in cases}


@pytest.mark.usefixtures("layout")
def test_the_next_call_finds_nothing_to_do(project):
    assert planned(project) == []


def test_no_command_takes_them_for_lost(layout):
    (job,) = open_jobs(Path("config.yaml"), "", "head")
    assert {store.stage for store in list_stores(layout)} == {"ingest", "predict"}
    assert not any(fault for _, fault in store_faults(layout, job.dataset))
    assert list(needless({layout: [job.dataset]})) == []
    assert changed_results(layout) == []
    assert trace(layout.mask("grcsf", 1, "c3", ".nii.gz")).broken == []


def test_what_a_lost_prediction_needs_is_made_and_nothing_else(project, layout):
    before = predicted(layout)
    shutil.rmtree(layout.prediction_store("grcsf", 1, "c3"))
    done = project.run(MASKS)
    assert "mrm 1of1: 5 cases, 1 to make" in done.output
    assert "grcsf, subset 1: predicted c3" in done.output
    assert "predicted c4" not in done.output
    assert "epoch 1" not in done.output, "nothing is trained again"
    assert maps() == []
    assert list(layout.stage("residual_maps").rglob("*.stores")) == []
    assert predicted(layout) == before


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("datasets.head.residuals.mrm.maps", PASSES),
        ("datasets.head.mae.shared.epochs", 2),
        ("datasets.head.experiments.grcsf.training.learning_rate", 3e-4),
    ],
)
def test_changed_settings_make_predictions_outdated_and_maps_due(project, key, value):
    text = (project.folder / "config.yaml").read_text("utf-8")
    project.change(key, value)
    jobs = planned(project)
    (project.folder / "config.yaml").write_text(text, "utf-8")
    assert set(GRCSF) < set(jobs)


def test_maps_are_read_of_what_is_not_trained_or_predicted_with_them(layout):
    (job,) = open_jobs(Path("config.yaml"), "", "head")
    keys = read_json(layout.residual_batch("mrm", "1of1"))["cases"]
    cases = list(keys)

    def read(key_of=keys.get, **changed):
        experiments = {**job.dataset.experiments}
        experiments["grcsf"] = experiments["grcsf"].model_copy(update=changed)
        dataset = job.dataset.model_copy(update={"experiments": experiments})
        settings = job.settings.model_copy(update={"datasets": {"head": dataset}})
        return maps_read(layout, settings, "mrm", cases, key_of)

    (layout.locks / "due.json").unlink(missing_ok=True)
    assert read() == set()
    assert read({**keys, "c4": "another image"}.get) == {"c4"}
    assert read({**keys, "c0": "another image"}.get) == set(cases), "a training case"
    assert read(context=1) == set(cases), "another network"


@pytest.mark.processes
@pytest.mark.parametrize("told", ["mrm 1of1: 1 of", "Finished residual_maps", "predicted c3"])
def test_a_call_that_is_killed_goes_on(project, layout, told):
    before = predicted(layout)
    for case in ("c3", "c4"):
        shutil.rmtree(layout.prediction_store("grcsf", 1, case))
    process = project.start(MASKS, "--cores", "1", "--configfile", "config.yaml")
    for line in process.stdout:
        if told in line:
            break
    process.kill_group(signal.SIGKILL)
    process.communicate()
    project.run(MASKS)
    assert predicted(layout) == before
    assert maps() == []
    assert planned(project) == []
