"""A manifest is true only while everything that it lists is there, as it was made."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import changed_results as manifests
from pipeline.orchestration.changed_results import (
    ChangedResult,
    changed_results,
    restore_times,
    set_aside,
    withdraw,
)
from pipeline.orchestration.record_writer import Inputs, JobDescription, recorded
from pipeline.storage import zarr_store
from pipeline.storage.files import file_digest, write_json
from pipeline.storage.layout import Layout, record_of
from pipeline.storage.zarr_store import write_store

LAYOUT_PATHS = {
    "ingest": lambda layout: (layout.cases, layout.case_store("a")),
    "train_mae": lambda layout: (layout.mae("m"), layout.mae("m").with_suffix("") / "model"),
    "residual_maps": lambda layout: (
        layout.residual_batch("r", "1of2"),
        layout.residual_store("r", "a"),
    ),
    "train_segmentation": lambda layout: (
        layout.model("unet++", 1),
        layout.model("unet++", 1).with_suffix("") / "model",
    ),
    "predict": lambda layout: (
        layout.predictions("unet++", 1),
        layout.prediction_store("unet++", 1, "a"),
    ),
    "postprocess": lambda layout: (
        layout.masks("unet++", 1),
        layout.mask("unet++", 1, "a", ".nii.gz"),
    ),
}


def write(manifest: Path, *outputs: Path) -> None:
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for output in outputs:
        output.mkdir(parents=True)
    relative = [str(output.relative_to(manifest.parent)) for output in outputs]
    manifest.write_text(json.dumps({"outputs": relative}))


def told(layout: Layout) -> list[str]:
    return [line for result in changed_results(layout) for line in result.messages]


def missing(manifest: Path, output: Path) -> str:
    return f"no longer there, though {manifest} lists it: {output}"


def everything(folder: Path) -> dict[Path, bytes | None]:
    """All files and folders, with what is in them."""
    return {one: one.read_bytes() if one.is_file() else None for one in folder.rglob("*")}


@pytest.mark.parametrize("stage", LAYOUT_PATHS)
def test_only_the_manifest_whose_output_vanished_is_untrue(tmp_path, stage):
    layout, other = Layout(tmp_path, "heart"), Layout(tmp_path, "other")
    kept, kept_output = LAYOUT_PATHS[stage](other)
    manifest, output = LAYOUT_PATHS[stage](layout)
    write(kept, kept_output)
    write(manifest, output, output.with_name("second"))
    assert changed_results(layout) == []
    output.rmdir()
    kept_output.rmdir()
    for _ in range(2):  # looking again says the same
        (found,) = changed_results(layout)
        assert found.manifest == manifest
        assert found.messages == (missing(manifest, output),)
    output.with_name("second").rmdir()
    assert told(layout) == [f"{missing(manifest, output)} and 1 more"]


@pytest.mark.parametrize("content", ["", '{"outputs": [', "[]", "{}", '{"outputs": 3}'])
def test_a_manifest_that_says_nothing_is_untrue(tmp_path, content):
    layout = Layout(tmp_path, "heart")
    layout.cases.parent.mkdir(parents=True)
    layout.cases.write_text(content)
    assert told(layout) == [f"damaged, it does not say what its job has made: {layout.cases}"]


def test_other_files_are_left_alone(tmp_path):
    layout = Layout(tmp_path, "heart")
    others = [layout.split, layout.summary("grcsf"), layout.phantom_truth, layout.table(".csv")]
    inside = layout.mae("m").with_suffix("") / "state.json"
    for path in [*others, inside]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert changed_results(layout) == []
    assert all(path.exists() for path in [*others, inside])


def test_without_results_nothing_is_untrue(tmp_path):
    assert changed_results(Layout(tmp_path / "missing", "heart")) == []


@pytest.fixture
def made(tmp_path) -> Layout:
    """A residual store, a model and a mask, with the manifests that their stages write."""
    layout = Layout(tmp_path, "heart")
    store = layout.residual_store("r", "a")
    write_store(store, {"residual": np.ones((2, 3, 4, 4), np.float16)}, {}, slice_axis=1)
    write_json(layout.residual_batch("r", "1of1"), {"cases": {"a": "x"}, "outputs": ["a.zarr"]})
    model = layout.mae("m").with_suffix("") / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    outputs = ["m/model.safetensors"]
    record = {"weights_sha256": file_digest(model), "outputs": outputs}
    write_json(layout.mae("m"), record)
    mask = layout.mask("unet", 1, "a", ".nii.gz")
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"mask")
    write_json(mask.with_name("a.json"), {"sha256": file_digest(mask)})
    cases = {"a": {"file": mask.name}}
    write_json(layout.masks("unet", 1), {"cases": cases, "outputs": [f"subset-1/{mask.name}"]})
    return layout


def outputs_of(layout: Layout) -> dict[Path, tuple[Path, Path, str]]:
    """Manifest → an output, the file in it to change, and what is said of it then."""
    store = layout.residual_store("r", "a")
    model = layout.mae("m").with_suffix("") / "model.safetensors"
    mask = layout.mask("unet", 1, "a", ".nii.gz")
    changed = "has changed since it was written"
    return {
        layout.residual_batch("r", "1of1"): (
            store,
            store / "residual" / "c" / "0" / "0" / "0" / "0",
            f"store {store}: residual cannot be read",
        ),
        layout.mae("m"): (model, model, f"{model}: {changed}"),
        layout.masks("unet", 1): (mask, mask, f"{mask}: {changed}"),
    }


def damage(file: Path) -> bytes:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    later = time.time_ns() + 10**9  # two writes may fall on one tick of the clock
    os.utime(file, ns=(later, later))
    return bytes(content)


CHANGED = pytest.mark.parametrize("index", range(3), ids=["store", "model", "mask"])


@CHANGED
def test_looking_at_what_was_changed_moves_nothing_and_says_the_same_again(made, index):
    manifest, (_, file, what) = list(outputs_of(made).items())[index]
    damage(file)
    before = everything(made.root)
    for _ in range(2):
        (found,) = changed_results(made)
        assert found.manifest == manifest
        (line,) = found.messages
        assert line.startswith(f"not as it was made: {what}")
    assert everything(made.root) == before


@CHANGED
def test_what_was_changed_is_set_aside_and_kept_when_its_job_begins(made, index):
    manifest, (output, file, what) = list(outputs_of(made).items())[index]
    content = damage(file)
    (line,) = set_aside(manifest)
    aside = line.removeprefix("set aside as ").split(": ")[0]
    assert what in line
    assert not output.exists()
    kept = output.with_name(aside)
    assert (kept / file.relative_to(output)).read_bytes() == content
    assert aside.startswith(".")
    assert kept.suffix == ".old", "which prune finds"
    assert all(path.exists() for path in outputs_of(made))
    assert told(made) == [missing(manifest, output)], "until its job has run"
    assert set_aside(manifest) == []


def test_a_manifest_that_nothing_makes_is_withdrawn_if_it_is_untrue(made):
    manifest, (output, file, _) = next(iter(outputs_of(made).items()))
    assert withdraw(manifest) == []
    assert manifest.exists()
    damage(file)
    aside, line = withdraw(manifest)
    assert aside.startswith("set aside as ")
    assert line == f"withdrawn, as no job of this configuration makes it: {manifest}"
    assert not manifest.exists()
    assert not output.exists()
    assert withdraw(manifest) == []


@pytest.mark.parametrize("lost", ["residual/c/0/0/0/0", "zarr.json", "residual/zarr.json"])
def test_a_store_that_lost_a_file_is_not_as_it_was_made(made, lost):
    store = made.residual_store("r", "a")
    (store / lost).unlink()
    later = time.time_ns() + 10**9
    os.utime((store / lost).parent, ns=(later, later))
    (line,) = told(made)
    assert line.startswith(f"not as it was made: store {store}: ")


def touched_outputs(made: Layout) -> list[ChangedResult]:
    """Outputs touched after their manifests were written, as they are compared."""
    later = time.time_ns() + 10**9
    for output, _, _ in outputs_of(made).values():
        for path in [output, *output.rglob("*")]:
            os.utime(path, ns=(later, later))
    return changed_results(made)


def test_what_was_only_touched_is_read_until_its_time_is_restored(made, monkeypatch):
    touched = touched_outputs(made)
    assert [result.messages for result in touched] == [()] * 3
    assert changed_results(made) == touched, "comparing sets no time back"
    for result in touched:
        restore_times(result)

    def read_again(path):
        raise AssertionError(path)

    monkeypatch.setattr("pipeline.orchestration.changed_results.verify_store", read_again)
    monkeypatch.setattr("pipeline.orchestration.changed_results.file_digest", read_again)
    assert changed_results(made) == []


@CHANGED
def test_what_was_edited_since_it_was_compared_keeps_its_time(made, index):
    touched = touched_outputs(made)
    _, file, what = list(outputs_of(made).values())[index]
    damage(file)
    later = time.time_ns() + 2 * 10**9
    os.utime(file, ns=(later, later))
    for result in touched:
        restore_times(result)
    (line,) = told(made)
    assert line.startswith(f"not as it was made: {what}")


def test_a_damaged_store_of_a_shared_folder_is_refused(made, tmp_path):
    store = made.residual_store("r", "a")
    shared = tmp_path / "shared.zarr"
    store.rename(shared)
    store.symlink_to(shared)
    (shard,) = shared.rglob("c/0/0/0/0")
    shard.write_bytes(b"damaged")
    with pytest.raises(PipelineError, match=f"store {shared}: .*; delete the store and run again"):
        changed_results(made)


@CHANGED
@pytest.mark.parametrize("when", ["before it is looked at", "while it is read"])
def test_what_another_call_takes_away_at_this_moment_is_missing(made, monkeypatch, index, when):
    manifest, (output, file, _) = list(outputs_of(made).items())[index]
    damage(file)
    name = {"before it is looked at": "_newest_change", "while it is read": "_verify"}[when]
    real = getattr(manifests, name)

    def taken_away(path, *more):
        if path == output and path.exists():
            path.rename(path.with_name("elsewhere"))
        return real(path, *more)

    monkeypatch.setattr(manifests, name, taken_away)
    assert told(made) == [missing(manifest, output)]


@CHANGED
def test_a_manifest_that_its_job_writes_anew_at_this_moment_is_none(made, monkeypatch, index):
    manifest, (_, file, _) = list(outputs_of(made).items())[index]
    damage(file)
    real = manifests._outputs

    def removed(path):
        if path == manifest:
            path.unlink()
        return real(path)

    monkeypatch.setattr(manifests, "_outputs", removed)
    assert changed_results(made) == []


def test_a_manifest_without_the_case_of_a_mask_is_no_traceback(made):
    mask = made.mask("unet", 1, "a", ".nii.gz")
    write_json(made.masks("unet", 1), {"outputs": [f"subset-1/{mask.name}"]})
    damage(mask)
    assert told(made) == [f"not as it was made: {mask}: has changed since it was written"]


def test_a_manifest_that_may_not_be_read_is_one_line(made, monkeypatch):
    def refused(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(PipelineError, match=r"\.json: Permission denied; expected a readable file"):
        changed_results(made)


SMALL = {
    "split": lambda layout: [layout.split],
    "evaluate": lambda layout: [layout.scores("unet++"), layout.summary("unet++")],
    "compare": lambda layout: [layout.table(".md"), layout.table(".csv")],
    "tabulate": lambda layout: [layout.chosen_table("t", one) for one in (".md", ".csv")],
}


def write_small(layout: Layout, stage: str, *, killed: bool = False, content: str = "{}") -> None:
    """A job of a stage that only writes small files, with its record."""
    written = SMALL[stage](layout)
    work = JobDescription(stage, layout.dataset, {}, layout.root, written, {}, seed=0, version=1)
    with recorded(work, lambda: Inputs({}, {})):
        for path in written:
            path.write_text(content)
        if killed:
            raise KeyboardInterrupt


@pytest.fixture
def small(tmp_path, monkeypatch) -> Layout:
    """A split, scores, a comparison and a table, with their records."""
    for slow in ("source_state", "loaded_packages"):
        monkeypatch.setattr(f"pipeline.orchestration.record_writer.{slow}", dict)
    layout = Layout(tmp_path, "heart")
    for stage in SMALL:
        write_small(layout, stage)
    return layout


OLDER = (1_577_836_800, 1_577_836_800)


@pytest.mark.parametrize("content", ["{ }", "", "{}\n"])
@pytest.mark.parametrize(("stage", "index"), [(one, at) for one in SMALL for at in (0, -1)])
def test_an_edited_small_result_is_told_in_one_line_and_set_aside(small, stage, index, content):
    declared, path = SMALL[stage](small)[0], SMALL[stage](small)[index]
    assert changed_results(small) == []
    path.write_text(content)
    before = everything(small.root)
    for times in (None, OLDER):
        os.utime(path, times)
        (found,) = changed_results(small)
        assert found.manifest == declared
        assert found.messages == (f"not as it was made: {path}: has changed since it was written",)
    assert everything(small.root) == before
    (line,) = set_aside(declared)
    aside = path.with_name(line.removeprefix("set aside as ").split(": ")[0])
    assert aside.read_text() == content
    assert (aside.name[0], aside.suffix) == (".", ".old"), "which prune finds"
    assert not path.exists()
    assert changed_results(small) == [], "Snakemake misses it by itself"
    write_small(small, stage)
    assert changed_results(small) == []


@pytest.mark.parametrize("stage", SMALL)
def test_a_small_result_that_was_only_touched_or_deleted_is_not_told(small, stage):
    first, *_, last = [*SMALL[stage](small), *SMALL[stage](small)]
    last.touch()
    os.utime(first, OLDER)
    assert changed_results(small) == []
    last.unlink()
    assert changed_results(small) == []


@pytest.mark.parametrize("record", [None, "", "{", "[]", "{}", '{"format": 1}', '{"format": 9}'])
def test_without_a_sound_record_nothing_is_said_of_a_small_result(small, record):
    small.split.write_text("edited")
    path = record_of(small.split)
    path.unlink() if record is None else path.write_text(record)
    assert changed_results(small) == []
    assert set_aside(small.split) == []


def test_what_a_killed_job_has_written_is_not_compared_with_an_earlier_one_s(small):
    with pytest.raises(KeyboardInterrupt):
        write_small(small, "evaluate", killed=True, content="new")
    assert changed_results(small) == []
    write_small(small, "evaluate", content="new")
    assert changed_results(small) == []


def test_edited_scores_that_nothing_makes_are_withdrawn(small):
    scores = small.scores("unet++")
    assert withdraw(scores) == []
    scores.write_text("edited")
    aside, line = withdraw(scores)
    assert aside.startswith("set aside as .unet++.csv.")
    assert line == f"withdrawn, as no job of this configuration makes it: {scores}"
    assert withdraw(scores) == []


def test_a_split_that_may_not_be_read_is_one_line(small, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pipeline.orchestration.changed_results.file_digest", refused)
    with pytest.raises(PipelineError, match=r"csv|md|json: Permission denied; expected a readable"):
        changed_results(small)


def test_a_store_on_a_disk_that_does_not_answer_is_told_and_stays(tmp_path, monkeypatch):
    layout = Layout(tmp_path, "heart")
    manifest, store = layout.residual_batch("r", "1of2"), layout.residual_store("r", "a")
    write_store(store, {"residual": np.ones((2, 3, 4))}, {"fingerprint": "f"})
    write_json(manifest, {"outputs": ["a.zarr"]})
    os.utime(store / "zarr.json", (time.time() + 5,) * 2)

    def silent(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(store))

    with monkeypatch.context() as patched:
        patched.setattr(zarr_store.zarr, "open_group", silent)
        for look in (changed_results, lambda _: set_aside(manifest)):
            with pytest.raises(PipelineError, match="cannot be read now"):
                look(layout)
    assert told(layout) == []
    assert [one.name for one in store.parent.glob("*.zarr")] == ["a.zarr"]
