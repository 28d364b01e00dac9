"""A manifest is true only while everything that it lists is there, as it was made."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import changed_results as module
from pipeline.orchestration.changed_results import (
    ChangedResult,
    changed_results,
    restore_times,
    set_aside,
    withdraw,
)
from pipeline.storage import zarr_store
from pipeline.storage.files import file_digest, write, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import write_store
from tests.pipeline.orchestration.calls import set_later

EDITED = "not as it was made: {0}: has changed since it was written"


def messages(layout: Layout) -> list[str]:
    return [line for result in changed_results(layout) for line in result.messages]


def missing(manifest: Path, output: Path) -> str:
    return f"no longer there, though {manifest} lists it: {output}"


def content(folder: Path) -> dict[Path, bytes | None]:
    """All files and folders, with what is in them."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path, "heart")


MANIFESTS = {
    "ingest": lambda layout: (layout.cases, layout.case_store("a")),
    "mae": lambda layout: (layout.mae("m"), folder_of(layout.mae("m")) / "model"),
    "maps": lambda layout: (layout.residual_batch("r", "1of2"), layout.residual_store("r", "a")),
    "model": lambda layout: (layout.model("n", 1), folder_of(layout.model("n", 1)) / "model"),
    "predict": lambda layout: (layout.predictions("n", 1), layout.prediction_store("n", 1, "a")),
    "masks": lambda layout: (layout.masks("n", 1), layout.mask("n", 1, "a", ".nii.gz")),
}


@pytest.mark.parametrize("of", MANIFESTS.values(), ids=MANIFESTS)
def test_only_the_manifest_whose_output_vanished_is_untrue(layout, of):
    (manifest, output), other = of(layout), of(Layout(layout.root, "other"))
    for path, listed in ((manifest, output), other):
        outputs = [listed, listed.with_name("second")]
        for folder in outputs:
            folder.mkdir(parents=True)
        write_json(path, {"outputs": [str(each.relative_to(path.parent)) for each in outputs]})
    assert changed_results(layout) == []
    output.rmdir()
    other[1].rmdir()
    assert changed_results(layout) == [ChangedResult(manifest, lost=missing(manifest, output))]
    output.with_name("second").rmdir()
    assert messages(layout) == [f"{missing(manifest, output)} and 1 more"]


@pytest.mark.parametrize("text", ["", '{"outputs": [', "[]", "{}", '{"outputs": 3}'])
def test_a_manifest_that_says_nothing_is_untrue(layout, text):
    write(layout.cases, text)
    assert messages(layout) == [f"damaged, it does not say what its job has made: {layout.cases}"]


def test_other_files_and_missing_results_are_no_manifests(layout):
    others = [layout.split, layout.summary("grcsf"), layout.phantom_truth, layout.table(".csv")]
    for path in (*others, folder_of(layout.mae("m")) / "state.json"):
        write_json(path, {})
    assert changed_results(layout) == []


@pytest.fixture
def made(layout) -> Layout:
    """A residual store, a model and a mask, with the manifests that their stages write."""
    arrays = {"residual": np.ones((2, 3, 4, 4), np.float16)}
    write_store(layout.residual_store("r", "a"), arrays, {}, slice_axis=1)
    write_json(layout.residual_batch("r", "1of1"), {"cases": {"a": "x"}, "outputs": ["a.zarr"]})
    model = folder_of(layout.mae("m")) / "model.safetensors"
    mask = layout.mask("unet", 1, "a", ".nii.gz")
    write(model, b"weights")
    write(mask, b"mask")
    outputs = ["m/model.safetensors"]
    write_json(layout.mae("m"), {"weights_sha256": file_digest(model), "outputs": outputs})
    write_json(mask.with_name("a.json"), {"sha256": file_digest(mask)})
    cases = {"a": {"file": mask.name}}
    write_json(layout.masks("unet", 1), {"cases": cases, "outputs": [f"subset-1/{mask.name}"]})
    return layout


@pytest.fixture(params=["store", "model", "mask"])
def result(request, made) -> tuple[Path, Path, Path, str]:
    """A manifest, its output, the file in it to change, and what is said of it then."""
    store, model = made.residual_store("r", "a"), folder_of(made.mae("m")) / "model.safetensors"
    mask, shard = made.mask("unet", 1, "a", ".nii.gz"), store / "residual/c/0/0/0/0"
    message = f"not as it was made: store {store}: residual cannot be read"
    return {
        "store": (made.residual_batch("r", "1of1"), store, shard, message),
        "model": (made.mae("m"), model, model, EDITED.format(model)),
        "mask": (made.masks("unet", 1), mask, mask, EDITED.format(mask)),
    }[request.param]


def damage(file: Path) -> bytes:
    """Flip a bit; returns the new content."""
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    set_later(file)
    return bytes(damaged)


def test_an_edited_output_is_reported_moved_by_nobody_and_set_aside_for_its_job(made, result):
    manifest, output, file, message = result
    damaged, before = damage(file), content(made.root)
    for _ in range(2):
        (changed,) = changed_results(made)
        assert changed.manifest == manifest
        (line,) = changed.messages
        assert line.startswith(message)
    assert content(made.root) == before
    (line,) = set_aside(manifest)
    name = line.removeprefix("set aside as ").split(": ")[0]
    assert message.removeprefix("not as it was made: ") in line
    assert (name[0], Path(name).suffix) == (".", ".old"), "which prune finds"
    assert (output.with_name(name) / file.relative_to(output)).read_bytes() == damaged
    assert not output.exists()
    assert messages(made) == [missing(manifest, output)], "until its job has run"
    assert set_aside(manifest) == []


def test_a_manifest_that_nothing_makes_is_withdrawn_if_it_is_untrue(result):
    manifest, output, file, _ = result
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
    file = made.residual_store("r", "a") / lost
    file.unlink()
    set_later(file.parent)
    (line,) = messages(made)
    assert line.startswith(f"not as it was made: store {made.residual_store('r', 'a')}: ")


def test_what_was_only_touched_is_read_until_its_time_is_restored(made, result, monkeypatch):
    manifest, output, file, message = result
    set_later(output, *output.rglob("*"))
    (touched,) = changed_results(made)
    assert (touched.manifest, touched.messages) == (manifest, [])
    assert changed_results(made) == [touched], "comparing sets no time back"
    restore_times(touched)
    with monkeypatch.context() as patched:
        for name in ("verify_store", "file_digest"):
            patched.setattr(module, name, pytest.fail)
        assert changed_results(made) == []
    set_later(file)
    (touched,) = changed_results(made)
    damage(file)
    restore_times(touched)
    (line,) = messages(made)
    assert line.startswith(message), "edited since it was compared, it keeps its time"


def test_a_damaged_store_of_a_shared_folder_is_refused(made, tmp_path):
    store, shared = made.residual_store("r", "a"), tmp_path / "shared.zarr"
    store.rename(shared)
    store.symlink_to(shared)
    (shard,) = shared.rglob("c/0/0/0/0")
    damage(shard)
    with pytest.raises(PipelineError, match=f"store {shared}: .*; delete the store and run again"):
        changed_results(made)


@pytest.mark.parametrize("readers", [["walk"], ["verify_store", "file_digest"]])
def test_what_another_call_takes_away_at_this_moment_is_missing(made, result, monkeypatch, readers):
    manifest, output, file, _ = result
    damage(file)

    def taking_away(real):
        def read(path, *more):
            if path == output and path.exists():
                path.rename(path.with_name("elsewhere"))
            return real(path, *more)

        return read

    for name in readers:
        owner = os if name == "walk" else module
        monkeypatch.setattr(owner, name, taking_away(getattr(owner, name)))
    assert messages(made) == [missing(manifest, output)]


def test_a_manifest_that_its_job_writes_anew_at_this_moment_is_none(made, result, monkeypatch):
    manifest, _, file, _ = result
    damage(file)
    real = Path.read_text

    def removed(path, *more):
        if path == manifest:
            path.unlink()
        return real(path, *more)

    monkeypatch.setattr(Path, "read_text", removed)
    assert changed_results(made) == []


def test_a_manifest_without_the_case_of_a_mask_is_no_traceback(made):
    mask = made.mask("unet", 1, "a", ".nii.gz")
    write_json(made.masks("unet", 1), {"outputs": [f"subset-1/{mask.name}"]})
    damage(mask)
    assert messages(made) == [EDITED.format(mask)]


def test_a_manifest_that_may_not_be_read_is_one_line(made, monkeypatch):
    def refused(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(PipelineError, match=r"\.json: Permission denied; expected a readable file"):
        changed_results(made)


def test_a_store_on_a_disk_that_does_not_answer_is_told_and_stays(made, monkeypatch):
    store = made.residual_store("r", "a")
    set_later(store / "zarr.json")

    def silent(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(store))

    with monkeypatch.context() as patched:
        patched.setattr(zarr_store.zarr, "open_group", silent)
        for look in (changed_results, lambda _: set_aside(made.residual_batch("r", "1of1"))):
            with pytest.raises(PipelineError, match="cannot be read now"):
                look(made)
    assert messages(made) == []
    assert [path.name for path in store.parent.glob("*.zarr")] == ["a.zarr"]
