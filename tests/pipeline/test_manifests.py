"""A manifest stays only while everything that it lists is there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.last_run import LONG_AGO_NS
from pipeline.layout import Layout
from pipeline.manifests import withdraw_untrue
from pipeline.stores import file_digest, verify_store, write_json, write_store

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
    relative = [str(output.relative_to(manifest.parent)) for output in outputs]
    manifest.write_text(json.dumps({"outputs": relative}))
    for output in outputs:
        output.mkdir(parents=True)


def withdrawn(manifest: Path) -> str:
    return f"withdrawn, because what it lists is not there: {manifest}"


@pytest.mark.parametrize("stage", LAYOUT_PATHS)
def test_only_the_manifest_whose_output_vanished_is_withdrawn(tmp_path, stage):
    layout, other = Layout(tmp_path, "heart"), Layout(tmp_path, "other")
    kept, kept_output = LAYOUT_PATHS[stage](other)
    manifest, output = LAYOUT_PATHS[stage](layout)
    write(kept, kept_output)
    write(manifest, output, output.with_name("second"))
    assert withdraw_untrue(layout) == []
    output.rmdir()
    kept_output.rmdir()
    assert withdraw_untrue(layout) == [withdrawn(manifest)]
    assert not manifest.exists()
    assert kept.exists(), "of another data set"
    assert output.with_name("second").exists()
    assert withdraw_untrue(layout) == []


@pytest.mark.parametrize("content", ["", '{"outputs": [', "[]", "{}", '{"outputs": 3}'])
def test_a_manifest_that_says_nothing_is_withdrawn(tmp_path, content):
    layout = Layout(tmp_path, "heart")
    layout.cases.parent.mkdir(parents=True)
    layout.cases.write_text(content)
    assert withdraw_untrue(layout) == [withdrawn(layout.cases)]


def test_other_files_are_left_alone(tmp_path):
    layout = Layout(tmp_path, "heart")
    others = [layout.split, layout.summary("grcsf"), layout.phantom_truth, layout.table(".csv")]
    inside = layout.mae("m").with_suffix("") / "state.json"
    for path in [*others, inside]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert withdraw_untrue(layout) == []
    assert all(path.exists() for path in [*others, inside])


def test_without_results_there_is_nothing_to_withdraw(tmp_path):
    assert withdraw_untrue(Layout(tmp_path / "missing", "heart")) == []


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


@pytest.mark.parametrize("index", range(3), ids=["store", "model", "mask"])
def test_what_was_changed_after_its_manifest_is_set_aside_and_kept(made, index):
    manifest, (output, file, told) = list(outputs_of(made).items())[index]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    first, second = withdraw_untrue(made)
    aside = first.removeprefix("set aside as ").split(" ")[0]
    assert told in first
    assert second == withdrawn(manifest)
    assert not output.exists()
    kept = output.with_name(aside)
    assert (kept / file.relative_to(output)).read_bytes() == content
    assert aside.startswith(".")
    assert kept.suffix == ".old", "which prune finds"
    assert [path.exists() for path in outputs_of(made)] == [i != index for i in range(3)]


def test_what_was_only_touched_stays_and_is_read_once(made, monkeypatch):
    for output, file, _ in outputs_of(made).values():
        file.touch()
        assert output.exists()
    assert withdraw_untrue(made) == []

    def read_again(path):
        raise AssertionError(path)

    monkeypatch.setattr("pipeline.manifests.verify_store", read_again)
    monkeypatch.setattr("pipeline.manifests.file_digest", read_again)
    assert withdraw_untrue(made) == []


def test_a_damaged_store_of_a_shared_folder_is_refused(made, tmp_path):
    store = made.residual_store("r", "a")
    shared = tmp_path / "shared.zarr"
    store.rename(shared)
    store.symlink_to(shared)
    (shard,) = shared.rglob("c/0/0/0/0")
    shard.write_bytes(b"damaged")
    with pytest.raises(PipelineError, match=f"store {shared}: .*; delete the store and run again"):
        withdraw_untrue(made)
    assert made.residual_batch("r", "1of1").exists()


def test_results_that_are_to_be_looked_at_are_not_read(made):
    manifest, (_, file, _) = next(iter(outputs_of(made).items()))
    file.write_bytes(b"damaged")
    os.utime(manifest, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert withdraw_untrue(made) == []
    with pytest.raises(PipelineError):
        verify_store(made.residual_store("r", "a"))
