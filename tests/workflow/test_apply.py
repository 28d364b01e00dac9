"""`snakemake apply`: which jobs it has, what it refuses, and that kills change nothing."""

import csv
import random
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from pipeline.storage.layout import Layout
from tests.workflow import applied

COHORT = Layout(Path("out"), "chest")
CALL = ("apply", "--cores", "2", "--config", "model=chest-2.zip", "root=scans", "results=out")
KILLS, LONGEST = 6, 12.0  # seconds until a call is killed


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of two networks."""
    return applied.write_bundle(tmp_path_factory.mktemp("bundle"), members=((1, 1), (1, 2)))


@pytest.fixture
def cohort(project, bundle):
    """A project with a bundle and ten empty scans."""
    shutil.copyfile(bundle, project.folder / bundle.name)
    for number in range(10):
        scan = project.folder / "scans" / f"site{number % 3}" / f"{number}.nii.gz"
        scan.parent.mkdir(parents=True, exist_ok=True)
        scan.touch()
    return project


def test_the_model_is_unpacked_and_nothing_is_trained(cohort):
    few = cohort.call("-n", *CALL)
    assert few.code == 0, few.output
    one_each = ("ingest", "split", "unpack", "residual_maps", "postprocess")
    assert few.counts == {**dict.fromkeys(one_each, 1), "predict": 3, "measure": 2}
    (cohort.folder / "config.yaml").write_text(
        "results: out\nresources: {cases_per_job: 4}\n"
        "apply: {model: chest-2.zip, root: scans, format: nifti}\n"
    )
    many = cohort.plan()  # without naming the target
    in_batches = {"ingest": 5, "residual_maps": 4, "predict": 12, "postprocess": 4, "measure": 5}
    assert many.counts == {**in_batches, "split": 1, "unpack": 1}


def test_what_cannot_be_applied_is_one_line(cohort):
    def said(*arguments):
        call = cohort.call("-n", *arguments)
        assert call.code == 1
        (line,) = call.errors
        return line

    assert said("apply").startswith("error: apply: found no model, expected one: snakemake apply")
    missing = said("apply", "--config", "model=none.zip", "root=scans")
    assert missing == "error: bundle none.zip: not there; give what grcsf export wrote"
    (cohort.folder / "empty").mkdir()
    empty = said("apply", "--config", "model=chest-2.zip", "root=empty", "results=out")
    assert "empty: fits no adapter, expected one of these" in empty
    split = cohort.folder / COHORT.split
    split.parent.mkdir(parents=True)
    split.write_text('{"subsets": {"1": {"train": ["a"]}}}')
    study = said(*CALL)
    assert study.startswith("error: results: found the results of a study in out/chest, expected")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(1200)
def test_a_call_that_is_killed_again_and_again_ends_with_the_same_table(cohort, new_project):
    shutil.rmtree(cohort.folder / "scans")
    for number in range(5):
        applied.write_scan(cohort.folder / "scans" / f"{number}.nii.gz", number)
    (cohort.folder / "scans" / "cut.nii.gz").write_bytes(b"\x1f\x8b cut")
    undisturbed = new_project(cohort.folder.with_name("undisturbed"))
    shutil.copytree(cohort.folder, undisturbed.folder)
    assert undisturbed.call(*CALL).code == 0
    moments = random.Random(23)
    for _ in range(KILLS):
        process = cohort.start(*CALL)

        def kill(process=process):
            with suppress(ProcessLookupError):
                process.kill_group(signal.SIGKILL)

        alarm = Timer(moments.uniform(1, LONGEST), kill)
        alarm.start()
        process.communicate()
        alarm.cancel()
    done = cohort.call(*CALL)
    assert done.code == 0, done.output[-6000:]
    assert rows(cohort) == rows(undisturbed)
    assert len(rows(cohort)) == 6
    assert cohort.call("-n", *CALL).jobs == []


def rows(project) -> list[dict[str, str]]:
    """The table, but for how long each scan took."""
    text = (project.folder / COHORT.cohort_table(".csv")).read_text("utf-8")
    return [{**row, "seconds": ""} for row in csv.DictReader(text.splitlines())]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_maps_that_are_given_back_are_never_all_there(cohort):
    shutil.rmtree(cohort.folder / "scans")
    for number in range(3):
        applied.write_scan(cohort.folder / "scans" / f"{number}.nii.gz", number)
    (cohort.folder / "config.yaml").write_text(
        "results: out\nstore: {keep: until_predicted}\n"
        "resources: {cases_per_job: 1, threads: 1}\n"
        "apply: {model: chest-2.zip, root: scans}\n"
    )
    done = cohort.run("apply", "--cores", "1")
    order = re.findall(r"^Job \d+: (residual_maps|predict) chest: .*-?(\dof4)", done.output, re.M)
    stages = [stage for stage, _ in order]
    assert stages.count("residual_maps") == 4
    assert "predict" in stages[: stages.index("residual_maps") + 3], order
    assert list(cohort.folder.glob("out/chest/residual_maps/mrm/*.zarr")) == []
