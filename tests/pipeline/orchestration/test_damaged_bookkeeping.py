"""What only remembers is made anew, and a damaged result is one line: no call ends otherwise."""

import shutil
import subprocess

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import cluster_jobs
from pipeline.orchestration.call import Call
from pipeline.orchestration.last_run import unrecorded
from pipeline.orchestration.locks import list_locks, locked
from pipeline.storage.files import file_digest, read_json, remove, write, write_json
from pipeline.storage.folders import record_of
from pipeline.storage.source_notes import file_stats, write_source_note
from tests.pipeline.damages import DAMAGES
from tests.pipeline.orchestration.calls import check, job, made, planned, pretrained, ran, whole
from tests.pipeline.orchestration.test_small_results import write_small

BOOKKEEPING = {
    "last run": lambda layout: layout.last_run,
    "records here": lambda layout: next(layout.root.parent.glob(".snakemake/grcsf/*.json")),
    "lock of a call": lambda layout: layout.locks / "call.claim",
    "lock of a stage": lambda layout: layout.locks / "ingest.claim",
    "sources": lambda layout: layout.sources("ingest"),
    "record": lambda layout: record_of(layout.split),
}


@pytest.fixture
def worked(layouts, tmp_path, monkeypatch):
    """A data set on which a call has worked, with all that it remembers."""
    for slow in ("source_state", "loaded_packages"):
        monkeypatch.setattr(f"pipeline.orchestration.record_writer.{slow}", dict)
    monkeypatch.setattr("pipeline.orchestration.call.source_state", lambda: {"commit": "abc"})
    layout, image = layouts[0], tmp_path / "image"
    image.write_bytes(b"read")
    made(layout)
    write_small(layout, "split")
    write_source_note(layout.sources("ingest"), file_stats([image]), {image: file_digest(image)})
    with locked(layout, "ingest"):
        pass
    plan = whole(job(layout, "ingest", layout.cases), job(layout, "split", layout.split))
    ran([layout], plan)
    assert check([layout]) == []
    return layout, plan


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", BOOKKEEPING)
def test_what_only_remembers_is_made_anew(worked, file, damage):
    layout, plan = worked
    path = BOOKKEEPING[file](layout)
    DAMAGES[damage](path)
    check([layout])
    list_locks(layout)
    unrecorded(layout)
    ran([layout], plan)
    with locked(layout, "ingest"):
        write_small(layout, "split")
    ran([layout], plan)
    assert path.is_file() or file == "sources", "made anew"
    if file != "sources":
        assert check([layout]) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_sources_of_which_nothing_is_known_are_looked_at_again(worked, damage):
    layout, _ = worked
    note = layout.sources("ingest")
    DAMAGES[damage](note)
    lines, due = planned([layout])
    assert lines == [f"heart: {note}: damaged; ingest looks at its files once more"]
    assert due == {layout.cases}


@pytest.mark.parametrize("damage", DAMAGES)
def test_runs_on_a_cluster_that_nobody_remembers(layouts, monkeypatch, damage):
    monkeypatch.setattr(shutil, "which", lambda _: "squeue")
    done = subprocess.CompletedProcess([], 0, stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    write_json(layouts[0].cluster_runs, {"runs": ["old"]})
    DAMAGES[damage](layouts[0].cluster_runs)
    cluster_jobs.cancel_leftover_jobs(layouts[:1], "new", [], print)
    assert read_json(layouts[0].cluster_runs)["runs"] == ["new"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("result", ["cases", "split"])
def test_a_damaged_result_is_due_or_one_line(worked, result, damage):
    layout, _ = worked
    path = getattr(layout, result)
    DAMAGES[damage](path)
    if damage in ("folder", "pipe"):
        with pytest.raises(PipelineError, match=rf"^{path}: found a {damage}.*; delete it and run"):
            check([layout])
        remove(path)
        assert not any("error" in line for line in check([layout]))
    elif (result, damage) != ("split", "nothing in it"):  # which is what its job wrote here
        assert planned([layout])[1] == {path}
    if damage != "other types":
        with pytest.raises(PipelineError) as raised:
            read_json(path)["subsets"]
        assert len(str(raised.value).splitlines()) == 1
        assert "delete it and run again" in str(raised.value) or "not there" in str(raised.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_note_beside_a_mask_has_the_mask_made_again(worked, damage):
    layout, _ = worked
    mask = layout.mask("unet", 1, "a", ".nii.gz")
    content = {"cases": {"a": {"file": mask.name}}, "outputs": [f"subset-1/{mask.name}"]}
    write_json(layout.masks("unet", 1), content)
    write_json(mask.with_name("a.json"), {"sha256": "x", "fingerprint": "f", "voxels": 1})
    write(mask, b"mask")
    DAMAGES[damage](mask.with_name("a.json"))
    assert layout.masks("unet", 1) in Call([layout], pretrained).due | planned([layout])[1]
