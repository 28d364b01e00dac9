"""A record beside every result: what made it, and at what cost; runs with nothing to do keep it."""

import json
import platform
import shutil
import sys

import numpy as np
import pytest

from pipeline.orchestration.record_writer import (
    Inputs,
    JobDescription,
    input_digests,
    recorded,
    recorded_path,
)
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.folders import record_of
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import write_store

STORES = ("a", "b")


@pytest.fixture
def job(tmp_path):
    """A job that makes two stores and lists them."""
    layout = Layout(tmp_path / "results", "discs")
    names, settings = {"experiment": "net", "subset": 1}, {"slices": {"size": [32, 32]}}
    written = [layout.predictions("net", 1)]
    return JobDescription("predict", "discs", names, layout.root, written, settings, 7, version=3)


def store(job, name):
    return job.written[0].with_suffix("") / f"{name}.zarr"


def make(job, fail_after=None):
    """Make the stores that are missing."""
    for name in STORES:
        if not store(job, name).exists():
            write_store(store(job, name), {"probability": np.ones((2, 3, 3))}, {"case": name})
        if name == fail_after:
            raise RuntimeError("cut off")
    listed = {"cases": dict.fromkeys(STORES, "f"), "outputs": [f"subset-1/{n}.zarr" for n in "ab"]}
    write_json(job.written[0], listed)


def run(job, *files, fail_after=None):
    with recorded(job, lambda: Inputs(input_digests(list(files)), {})):
        make(job, fail_after)
    return read_json(record_of(job.written[0]))


def test_a_record_says_what_made_a_result_and_at_what_cost(job, tmp_path):
    image = tmp_path / "split.json"
    image.write_text("{}")
    record = run(job, image, tmp_path / "gone.json")
    assert platform.node() not in json.dumps(record), "the machine's name is nobody's business"
    assert record_of(job.written[0]).name == "subset-1.provenance.json"
    assert (record["stage"], record["dataset"], record["names"]) == ("predict", "discs", job.names)
    ((began, only),) = record["runs"].items()
    known = ("finished", "settings", "seed", "version", "made")
    assert [only[key] for key in known] == [True, job.settings, 7, 3, 3]
    assert only["inputs"] == {"../split.json": file_digest(image), "../gone.json": None}
    assert only["packages"]["numpy"] == np.__version__
    assert only["python"] == ".".join(map(str, sys.version_info[:3]))
    assert only["device"]["type"] == "cpu"
    assert only["seconds"] >= 0
    assert only["peak_memory_bytes"] > 10_000_000
    metadata = file_digest(store(job, "a") / "zarr.json")
    assert record["results"]["subset-1/a.zarr"] == {"sha256": metadata, "run": began}
    assert set(record["results"]) == {"subset-1.json", "subset-1/a.zarr", "subset-1/b.zarr"}


def test_a_run_that_finds_all_made_leaves_the_one_that_made_it(job):
    ((began, first),) = run(job)["runs"].items()
    for _ in range(3):
        record = run(job)
    assert {result["run"] for result in record["results"].values()} == {began}
    assert record["runs"][began] == first
    assert len(record["runs"]) == 2, "of runs that made nothing, only the last is kept"


def test_a_store_made_again_alone_is_the_later_run_s(job):
    (began,) = run(job)["runs"]
    (store(job, "b") / "zarr.json").unlink()
    store(job, "b").rename(store(job, "old"))
    job.written[0].unlink()  # as the workflow does, before it runs the job again
    record = run(job)
    assert record["results"]["subset-1/a.zarr"]["run"] == began
    assert record["results"]["subset-1/b.zarr"]["run"] == max(record["runs"]) != began


def test_a_run_that_was_cut_off_stays_and_has_what_it_made(job):
    with pytest.raises(RuntimeError, match="cut off"):
        run(job, fail_after="a")
    (began,) = read_json(record_of(job.written[0]))["runs"]
    record = run(job)
    assert not record["runs"][began]["finished"]
    assert record["results"]["subset-1/a.zarr"]["run"] == began
    assert record["results"]["subset-1/b.zarr"]["run"] == max(record["runs"]) != began


def test_a_damaged_record_is_begun_anew_and_stops_nothing(job, caplog, tmp_path):
    run(job)
    record_of(job.written[0]).write_text("{")
    write_store(tmp_path / "shared.zarr", {"probability": np.ones((2, 3, 3))}, {})
    shutil.rmtree(store(job, "a"))
    store(job, "a").symlink_to(tmp_path / "shared.zarr")
    record = run(job)
    assert len(record["runs"]) == 1
    assert record["results"]["subset-1/a.zarr"]["run"] is None, "somebody else has made it"
    assert "begun anew" in caplog.text


def test_paths_are_relative_in_a_project_and_absolute_elsewhere(tmp_path):
    root = tmp_path / "project" / "results"
    assert recorded_path(root / "heart" / "a.json", root) == "heart/a.json"
    assert recorded_path(root.parent / "images" / "a.nii.gz", root) == "../images/a.nii.gz"
    assert recorded_path(tmp_path / "a.nii.gz", root) == str(tmp_path / "a.nii.gz")


def test_only_the_first_process_of_a_training_writes(job, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with recorded(job, lambda: pytest.fail("no other process asks for inputs")):
        make(job)
    assert not record_of(job.written[0]).exists()
