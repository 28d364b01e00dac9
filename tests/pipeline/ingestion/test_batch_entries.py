"""What the job of ingest for all cases takes over from batches, and leaves of them."""

import os
import shutil

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.ingest import ingest
from pipeline.settings import Source
from pipeline.storage.batches import batch_of, batches_in
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import listing_changes, source_changes

SIDEWAYS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def root(tmp_path):
    """A CSV of two images."""
    grid = Geometry((4, 12, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), SIDEWAYS)
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, case in enumerate("ab"):
        image = np.random.default_rng(seed).normal(100, 5, grid.shape).astype(np.float32)
        write_volume(folder / f"{case}.nii.gz", image, grid)
    (folder / "manifest.csv").write_text("case,image\na,a.nii.gz\nb,b.nii.gz\n", "utf-8")
    return folder


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "scans")


def store(layout, root, batch="", on_error="skip", **chosen):
    source = Source(adapter="manifest", root=str(root), modality="MR", on_error=on_error)
    ingest(layout, source, root, [], 1, batch=batch, **chosen)


def test_one_job_for_all_leaves_nothing_of_the_batches_before(root, layout):
    for batch in ("1of4", "2of4", "3of4", "4of4", "1of2", "2of2", ""):
        store(layout, root, batch, cases_per_job=1)
    folder = layout.stage("ingest")
    assert [path.name for path in batches_in(folder)] == ["batch-1of2.json", "batch-2of2.json"]
    before = read_json(layout.cases)
    assert not before["outputs"], "the batches list them"
    store(layout, root, cases_per_job=2)
    assert not batches_in(folder)
    assert not list(layout.locks.glob("ingest *of*"))
    after = read_json(layout.cases)
    assert after["outputs"] == ["a.zarr", "b.zarr"]
    assert after["cases"] == before["cases"]
    os.utime(root / "b.nii.gz", (1, 1))
    assert str(root / "b.nii.gz") in source_changes(layout.sources("ingest")).touched


@pytest.mark.parametrize("batch", ["", "1of1"])
def test_files_of_cases_that_the_listing_sets_aside_are_noted_as_a_plan_lists_them(
    root, layout, batch
):
    shutil.copy(root / "b.nii.gz", root / "c.nii.gz")
    with (root / "manifest.csv").open("a", encoding="utf-8") as file:
        file.write("c,c.nii.gz\nc,c.nii.gz\n")
    store(layout, root, batch)
    images = [root / f"{case}.nii.gz" for case in "abc"]
    listed = images if batch else [*images, root / "manifest.csv"]
    note = layout.sources(f"ingest {batch}".strip())
    assert listing_changes(note, listed) == ([], []), "or ingest were due for ever"


def test_batches_that_have_refused_a_case_run_again(root, layout, monkeypatch):
    def too_little(*_):
        raise MemoryError

    own, other = {batch_of("a", 2), batch_of("b", 2)}, {"1of2", "2of2"} - {batch_of("a", 2)}
    assert len(own) == 1, "the other batch has no case"
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.ingestion.case_stores.write_store", too_little)
        for batch in (*own, *other):
            store(layout, root, batch, "stop")
    with pytest.raises(PipelineError, match="memory is too small for it"):
        store(layout, root, "", "stop", cases_per_job=1)
    assert batches_in(layout.stage("ingest")) == [layout.ingest_batch(*other)]


@pytest.mark.parametrize("edit", [{"cases": {}}, {"set_aside": []}, {"listed": "a"}])
def test_a_case_of_which_an_edited_batch_does_not_tell_is_read_anew(root, layout, edit):
    for batch in ("1of2", "2of2", ""):
        store(layout, root, batch, cases_per_job=1)
    before = read_json(layout.cases)["cases"]
    manifest = layout.ingest_batch(batch_of("a", 2))
    write_json(manifest, {**read_json(manifest), **edit})
    store(layout, root, cases_per_job=1)
    assert read_json(layout.cases)["cases"] == before
