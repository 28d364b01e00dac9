"""A manifest stays only while everything that it lists is there."""

import json
from pathlib import Path

import pytest

from pipeline.layout import Layout
from pipeline.manifests import withdraw_untrue

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


@pytest.mark.parametrize("stage", LAYOUT_PATHS)
def test_only_the_manifest_whose_output_vanished_is_withdrawn(tmp_path, stage):
    kept, kept_output = LAYOUT_PATHS[stage](Layout(tmp_path, "other"))
    manifest, output = LAYOUT_PATHS[stage](Layout(tmp_path, "heart"))
    write(kept, kept_output)
    write(manifest, output, output.with_name("second"))
    assert withdraw_untrue(tmp_path) == []
    output.rmdir()
    assert withdraw_untrue(tmp_path) == [manifest]
    assert not manifest.exists()
    assert kept.exists()
    assert output.with_name("second").exists()
    assert withdraw_untrue(tmp_path) == []


@pytest.mark.parametrize("content", ["", '{"outputs": [', "[]", "{}", '{"outputs": 3}'])
def test_a_manifest_that_says_nothing_is_withdrawn(tmp_path, content):
    manifest = Layout(tmp_path, "heart").cases
    manifest.parent.mkdir(parents=True)
    manifest.write_text(content)
    assert withdraw_untrue(tmp_path) == [manifest]


def test_other_files_are_left_alone(tmp_path):
    layout = Layout(tmp_path, "heart")
    others = [layout.split, layout.summary("grcsf"), layout.phantom_truth, layout.table(".csv")]
    inside = layout.mae("m").with_suffix("") / "state.json"
    for path in [*others, inside]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert withdraw_untrue(tmp_path) == []
    assert all(path.exists() for path in [*others, inside])


def test_without_results_there_is_nothing_to_withdraw(tmp_path):
    assert withdraw_untrue(tmp_path / "missing") == []
