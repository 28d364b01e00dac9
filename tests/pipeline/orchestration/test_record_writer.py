"""A record beside every result: what made it, and at what cost; runs with nothing to do keep it."""

import json
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.orchestration import environment
from pipeline.orchestration.changed_results import changed_results
from pipeline.orchestration.record_writer import (
    Inputs,
    JobDescription,
    input_digests,
    recorded,
    recorded_path,
)
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.layout import Layout, record_of
from pipeline.storage.zarr_store import write_store

STORES = ("a", "b")


@pytest.fixture
def work(tmp_path):
    """A job that makes two stores and lists them."""
    manifest = tmp_path / "results" / "discs" / "predict" / "net" / "subset-1.json"
    return JobDescription(
        stage="predict",
        dataset="discs",
        names={"experiment": "net", "subset": 1},
        root=tmp_path / "results",
        written=[manifest],
        settings={"slices": {"size": [32, 32]}},
        seed=7,
        version=3,
    )


def store(work, name):
    return work.written[0].with_suffix("") / f"{name}.zarr"


def make(work, fail_after=None):
    """Make the stores that are missing."""
    for name in STORES:
        if not store(work, name).exists():
            write_store(store(work, name), {"probability": np.ones((2, 3, 3))}, {"case": name})
        if name == fail_after:
            raise RuntimeError("cut off")
    listed = {"cases": dict.fromkeys(STORES, "f"), "outputs": [f"subset-1/{n}.zarr" for n in "ab"]}
    write_json(work.written[0], listed)


def run(work, *files, fail_after=None):
    with recorded(work, lambda: Inputs(input_digests(list(files)), {})):
        make(work, fail_after)
    return read_json(record_of(work.written[0]))


def test_a_record_says_what_made_a_result_and_at_what_cost(work, tmp_path):
    image = tmp_path / "split.json"
    image.write_text("{}")
    record = run(work, image)
    assert record_of(work.written[0]).name == "subset-1.provenance.json"
    told = {key: record[key] for key in ("stage", "dataset", "names", "written")}
    assert told == {
        "stage": "predict",
        "dataset": "discs",
        "names": {"experiment": "net", "subset": 1},
        "written": "discs/predict/net/subset-1.json",
    }
    ((began, one),) = record["runs"].items()
    assert one["finished"]
    assert one["settings"] == {"slices": {"size": [32, 32]}}
    assert (one["seed"], one["version"], one["made"]) == (7, 3, 3)
    assert one["inputs"] == {"../split.json": file_digest(image)}
    assert one["packages"]["numpy"] == np.__version__
    assert one["python"] == ".".join(map(str, sys.version_info[:3]))
    assert one["device"]["type"] == "cpu"
    assert one["seconds"] >= 0
    assert one["peak_memory_bytes"] > 10_000_000
    metadata = file_digest(store(work, "a") / "zarr.json")
    assert record["results"]["subset-1/a.zarr"] == {"sha256": metadata, "run": began}
    assert set(record["results"]) == {"subset-1.json", "subset-1/a.zarr", "subset-1/b.zarr"}


def test_a_run_that_finds_all_made_leaves_the_one_that_made_it(work):
    ((began, first),) = run(work)["runs"].items()
    for _ in range(3):
        record = run(work)
    assert {one["run"] for one in record["results"].values()} == {began}
    assert record["runs"][began] == first
    assert len(record["runs"]) == 2, "of runs that made nothing, only the last is kept"


def test_a_store_made_again_alone_is_the_later_run_s(work):
    (began,) = run(work)["runs"]
    (store(work, "b") / "zarr.json").unlink()
    store(work, "b").rename(store(work, "old"))
    work.written[0].unlink()  # as the workflow does, before it runs the job again
    record = run(work)
    later = max(record["runs"])
    assert record["results"]["subset-1/a.zarr"]["run"] == began
    assert record["results"]["subset-1/b.zarr"]["run"] == later


def test_a_run_that_was_cut_off_stays_and_has_what_it_made(work):
    with pytest.raises(RuntimeError, match="cut off"):
        run(work, fail_after="a")
    (began,) = read_json(record_of(work.written[0]))["runs"]
    record = run(work)
    assert not record["runs"][began]["finished"]
    assert record["results"]["subset-1/a.zarr"]["run"] == began
    assert record["results"]["subset-1/b.zarr"]["run"] == max(record["runs"]) != began


def test_what_a_link_leads_to_was_made_by_somebody_else(work, tmp_path):
    write_store(tmp_path / "shared.zarr", {"probability": np.ones((2, 3, 3))}, {})
    store(work, "a").parent.mkdir(parents=True)
    store(work, "a").symlink_to(tmp_path / "shared.zarr")
    assert run(work)["results"]["subset-1/a.zarr"]["run"] is None


def test_only_the_first_process_of_a_training_writes(work, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with recorded(work, lambda: pytest.fail("no other process asks for inputs")):
        make(work)
    assert not record_of(work.written[0]).exists()


def test_a_damaged_record_is_begun_anew_and_stops_nothing(work, caplog):
    run(work)
    record_of(work.written[0]).write_text("{")
    assert len(run(work)["runs"]) == 1
    assert "begun anew" in caplog.text


def test_a_missing_input_is_told_as_missing(work, tmp_path):
    ((_, one),) = run(work, tmp_path / "gone.json")["runs"].items()
    assert one["inputs"] == {"../gone.json": None}


def test_records_are_no_manifests_that_could_be_untrue(work):
    run(work)
    assert changed_results(Layout(work.root, work.dataset)) == []
    assert record_of(work.written[0]).exists()


def test_paths_are_relative_in_a_project_and_absolute_elsewhere(tmp_path):
    root = tmp_path / "project" / "results"
    assert recorded_path(root / "heart" / "a.json", root) == "heart/a.json"
    assert recorded_path(root.parent / "images" / "a.nii.gz", root) == "../images/a.nii.gz"
    assert recorded_path(tmp_path / "a.nii.gz", root) == str(tmp_path / "a.nii.gz")


def test_a_gpu_that_was_used_is_named_with_its_memory(monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        get_device_name=lambda number: f"card {number}",
        max_memory_allocated=lambda: 12,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert environment.device() == ({"type": "cuda", "name": "card 0, card 1"}, 12)
    cuda.is_initialized = lambda: False
    where, memory = environment.device()
    assert (where["type"], memory) == ("cpu", None)
    assert where["name"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package in a folder of its own, as `surroundings` sees it."""
    package = tmp_path / "outer" / "checkout" / "pipeline"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE", package)
    return package.parent


def git(folder, *arguments):
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)


def test_the_commit_and_what_was_changed_since(checkout):
    assert environment.source_state() is None
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    state = environment.source_state()
    assert len(state["commit"]) == 40
    assert state["changed"] == []
    (checkout / "pipeline" / "new.py").write_text("")
    (checkout / "README.md").write_text("no source")
    assert environment.source_state()["changed"] == ["pipeline/new.py"]


def test_somebody_else_s_repository_around_it_is_not_asked(checkout):
    git(checkout.parent, "init")
    assert environment.source_state() is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.source_state() is None


def test_a_record_does_not_tell_the_machine_s_name(work):
    assert platform.node() not in json.dumps(run(work))
