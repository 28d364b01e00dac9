"""A trained model applied to 200 scans on a cluster that loses a node on the way."""

import csv
from pathlib import Path

import pytest

from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from tests.slurm.conftest import Project, wait_until
from tests.workflow.applied import write_bundle, write_scan

pytestmark = pytest.mark.timeout(1800)
SCANS = 200
COHORT = Layout(Path("results"), "chest")
STAGES = ("residual_maps", "predict", "postprocess", "measure")


@pytest.fixture
def cohort(cluster, tmp_path) -> Project:
    """Scans, a bundle, and a configuration that divides them into two batches."""
    names = [f"scan{number:03d}" for number in range(SCANS)]
    for number, name in enumerate(names):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", number)
    project = Project(tmp_path, cluster)
    resources = {"threads": 1, "memory_mb": 1900, "minutes": 7, "cases_per_job": SCANS // 2}
    bundle = write_bundle(tmp_path).name
    project.configure({"resources": resources, "apply": {"model": bundle, "root": "scans"}})
    return project


def test_every_scan_is_in_the_table_once_though_a_node_is_lost(cohort):
    ask = cohort.cluster.ask
    maps = cohort.folder / COHORT.stage("residual_maps")
    with cohort.running() as run:
        wait_until(lambda: [*maps.glob("*/*.zarr")] or run.poll() is not None)
        assert run.poll() is None, cohort.output
        lost = next(job for job in cohort.jobs if job["JobState"] == "RUNNING")
        node = lost["NodeList"]
        ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        try:
            wait_until(lambda: any(int(job["Restarts"]) for job in cohort.jobs))
            assert run.poll() is None, cohort.output
        finally:
            ask("scontrol", "update", f"nodename={node}", "state=resume")
        assert run.wait() == 0, cohort.output
    text = (cohort.folder / COHORT.cohort_table(".csv")).read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["case"] for row in rows] == [f"scan{number:03d}" for number in range(SCANS)]
    assert not any(row["fault"] for row in rows)
    assert all((cohort.folder / "results" / row["mask"]).exists() for row in rows)
    for stage in STAGES:
        folder = cohort.folder / COHORT.stage(stage)
        batches = list(folder.rglob("batch-*of2.json"))
        cases = [case for path in batches for case in read_json(path)["cases"]]
        assert sorted(cases) == sorted(row["case"] for row in rows), stage
