"""Batches of cases: the results of one job, made by several, of which a change concerns few."""

import shutil
from pathlib import Path

import pytest

from pipeline.storage.batches import batch_of
from pipeline.storage.files import read_json
from tests.workflow import tiny
from tests.workflow.edits import HEAD, listed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RESULTS = Path("results", "head")
DIVIDED = ("ingest", "predict", "postprocess", "evaluate")
TABLES = ("evaluate/grcsf.csv", "evaluate/grcsf.json", "evaluate/given.csv", "compare/table.csv")


@pytest.fixture(scope="module")
def divided(finished, tmp_path_factory):
    """The finished project, whose stages that work case by case have run again, in batches."""
    project = type(finished)(tmp_path_factory.mktemp("divided") / "project")
    shutil.copytree(finished.folder, project.folder, symlinks=True)
    for stage in DIVIDED:
        shutil.rmtree(project.folder / RESULTS / stage)
    project.change("resources.cases_per_job", 1)
    project.run()
    return project


@pytest.fixture
def again(divided, tmp_path):
    shutil.copytree(divided.folder, tmp_path / "again", symlinks=True)
    return type(divided)(tmp_path / "again")


def test_batches_make_what_one_job_makes(finished, divided):
    for name in TABLES:
        assert (divided.folder / RESULTS / name).read_bytes() == (
            finished.folder / RESULTS / name
        ).read_bytes(), name
    masks = sorted((finished.folder / RESULTS / "postprocess").glob("*/*/*.nii.gz"))
    assert masks
    for mask in masks:
        other = divided.folder / mask.relative_to(finished.folder)
        assert other.read_bytes() == mask.read_bytes(), mask
    whole, parts = (
        read_json(project.folder / HEAD.cases)["cases"] for project in (finished, divided)
    )
    assert whole == parts
    assert not (divided.folder / HEAD.predictions("grcsf", 1)).exists(), "there is one or the other"


def test_nothing_is_planned_after_batches(divided):
    assert not divided.plan().jobs


def test_a_new_case_disturbs_its_batch_alone(again):
    listed([0, 1, 2, 3, 4, 6])(again)
    tiny.give(again.folder, 6)
    stored = [job for job in again.plan().jobs if job.startswith("ingest")]
    assert stored == [f"ingest head: batch {batch_of('c6', 8)}", "ingest head"]


def test_an_edited_image_is_found_in_its_batch(again):
    image = tiny.image_of(again.folder / "images", 3)
    shutil.copy(tiny.image_of(again.folder / "images", 5), image)
    plan = again.plan()
    ingested = [job for job in plan.jobs if job.startswith("ingest")]
    assert ingested == [f"ingest head: batch {batch_of('c3', 8)}", "ingest head"]
    assert f"replaced since ingest {batch_of('c3', 8)} read it" in plan.output


def test_a_deleted_mask_is_made_by_its_batch(again):
    mask = again.folder / HEAD.mask("grcsf", 1, "c3", ".nii.gz")
    before = mask.read_bytes()
    mask.unlink()
    done = again.run()
    own = batch_of("c3", 2)
    cut = [job for job in done.jobs if job.startswith("postprocess")]
    assert cut == [f"postprocess head: grcsf, subset 1/batch-{own}"]
    assert mask.read_bytes() == before


def test_a_faulty_case_of_a_batch_is_told_once_all_batches_are_read(again):
    for number in (0, 3):
        image = tiny.image_of(again.folder / "images", number)
        image.write_bytes(image.read_bytes()[:3000])
    done = again.call("--cores", "2", "--configfile", "config.yaml")
    assert done.code != 0
    title, *faults = done.output.splitlines()[-4:]
    assert title == "ingest failed (results/head/logs/ingest.log):"
    assert faults[0] == "error: 2 of 5 cases cannot be used"
    assert ["c0" in faults[1], "c3" in faults[2]] == [True, True]


def test_what_one_job_has_made_goes_on_as_one(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "again", symlinks=True)
    project = type(finished)(tmp_path / "again")
    project.change("resources.cases_per_job", 3)
    assert not [job for job in project.plan().jobs if job.startswith("ingest")]
    listed([0, 1, 2, 3, 4, 6])(project)
    tiny.give(project.folder, 6)
    ingested = [job for job in project.plan().jobs if job.startswith("ingest")]
    assert ingested == ["ingest head"], "fewer cases have come than a job may have"
