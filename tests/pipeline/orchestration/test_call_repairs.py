"""What a plan finds edited, touched or replaced, and what a call does about it."""

import os

import pytest

from pipeline.orchestration.call import Call
from pipeline.storage.files import file_digest, read_json, write, write_json
from pipeline.storage.source_notes import file_stats, write_source_note
from tests.pipeline.orchestration.calls import (
    check,
    job,
    made,
    partial,
    planned,
    pretrained,
    ran,
    set_later,
    whole,
)


@pytest.fixture
def edited(layouts):
    """Results with a mask that was edited by hand."""
    made(layouts[0])
    mask = layouts[0].mask("unet", 1, "a", ".nii.gz")
    write(mask, b"mask")
    write_json(mask.with_name("a.json"), {"sha256": file_digest(mask)})
    content = {"cases": {"a": {"file": mask.name}}, "outputs": [f"subset-1/{mask.name}"]}
    write_json(layouts[0].masks("unet", 1), content)
    mask.write_bytes(b"by hand")
    set_later(mask)
    return mask


def test_a_plan_moves_nothing_and_a_call_that_does_not_make_it_neither(layouts, edited):
    manifest = layouts[0].masks("unet", 1)
    line = f"not as it was made: {edited}: has changed since it was written"
    assert check(layouts) == check(layouts) == [line]
    ingest = job(layouts[0], "ingest", layouts[0].cases)
    masks = job(layouts[0], "postprocess unet 1", manifest, due=False)
    assert ran(layouts, partial(ingest)) == [line]
    assert ran(layouts, whole(ingest, masks)) == [line]
    assert edited.read_bytes() == b"by hand"
    assert manifest.exists()


def test_a_lost_note_of_folders_by_digest_is_written_anew(layouts):
    note = layouts[0].by_digest
    store = layouts[0].stage("ingest") / "7c" / "c3.zarr"
    assert check(layouts) == []
    store.mkdir(parents=True)
    (line,) = check(layouts)
    assert str(note) in line
    assert not note.exists(), "a plan writes nothing"
    assert ran(layouts, whole()) == [line]
    assert layouts[0].case_store("c3") == store
    assert check(layouts) == []


def test_a_plan_writes_nothing_and_a_call_notes_what_was_touched(layouts, edited, tmp_path):
    edited.write_bytes(b"mask")
    image, layout = tmp_path / "image", layouts[0]
    image.write_bytes(b"read")
    note = layout.sources("ingest")
    write_source_note(note, file_stats([image]), {image: file_digest(image)})
    set_later(image, edited)
    before = {path: path.stat().st_mtime_ns for path in layout.root.rglob("*")}
    assert check(layouts) == check(layouts) == []
    assert {path: path.stat().st_mtime_ns for path in layout.root.rglob("*")} == before
    assert ran(layouts, whole(job(layout, "ingest", layout.cases, due=False))) == []
    assert edited.stat().st_mtime_ns == layout.masks("unet", 1).stat().st_mtime_ns
    assert read_json(note)["files"][str(image)]["mtime_ns"] == image.stat().st_mtime_ns


@pytest.mark.parametrize("meanwhile", [False, True])
def test_it_is_set_aside_by_the_call_that_makes_it_unless_another_has(layouts, edited, meanwhile):
    call = Call(layouts, pretrained)
    assert len(list(call.check())) == 1
    if meanwhile:
        edited.write_bytes(b"mask")
    call.lock()
    plan = partial(job(layouts[0], "postprocess unet 1", layouts[0].masks("unet", 1)))
    lines = [line.partition("nii.gz.")[0] for line in call.prepare(plan)]
    assert lines == ([] if meanwhile else ["set aside as .a."])
    assert [path.read_bytes() for path in edited.parent.glob(".*.old")] == [b"by hand"] * len(lines)
    assert edited.exists() == meanwhile


@pytest.mark.usefixtures("edited")
def test_a_manifest_of_no_job_is_withdrawn_by_a_whole_call_alone(layouts):
    manifest = layouts[0].masks("unet", 1)
    ingest = job(layouts[0], "ingest", layouts[0].cases, due=False)
    assert len(ran(layouts, partial(ingest))) == 1
    assert manifest.exists()
    call = Call(layouts, pretrained)
    list(call.check())
    aside, line = call.finish(whole(ingest))  # there was nothing to do
    assert aside.startswith("set aside as ")
    assert line == f"withdrawn, as no job of this configuration makes it: {manifest}"
    assert check(layouts) == []


@pytest.mark.parametrize("work", ["ingest", "train_mae m", "train_segmentation u repeat-2 1"])
def test_files_replaced_since_they_were_read_have_their_job_planned(layouts, tmp_path, work):
    layout = layouts[0]
    made(layout)
    training = layout.model("u/repeat-2", 1)
    for manifest in (layout.mae("m"), training):
        write_json(manifest, {"outputs": []})
    files = [tmp_path / name for name in ("one", "two")]
    for path in files:
        path.write_bytes(b"read")
    digests = {path: file_digest(path) for path in files}
    write_source_note(layout.sources(work), file_stats(files), digests)
    for path in files:
        path.write_bytes(b"corrected")
        os.utime(path, (1_500_000_000, 1_500_000_000))
    line = f"heart: replaced since {work} read it: {files[0]} and 1 more"
    manifests = [layout.cases, layout.mae("m"), training]

    def fed(asked):
        return manifests[1:] if asked is layout else []

    due = {manifest for manifest in manifests if layout.work_of(manifest) == work}
    assert planned(layouts, fed) == planned(layouts, fed) == ([line], due)
    without, _ = planned(layouts, lambda _: [])
    assert without == ([line] if work == "ingest" else [])
