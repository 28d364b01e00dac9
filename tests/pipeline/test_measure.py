"""A trained model applied to scans, stage by stage: a row each, the masks of `grcsf predict`."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from pipeline.measure import seconds_spent
from pipeline.settings import Resources
from pipeline.settings.apply.cohort import validated
from pipeline.storage.batches import batch_of
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.dicom.segmentation import read_segmentation
from pipeline.storage.images.volumes import read_geometry, read_volume
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import store_attributes
from pipeline.tools.export import predict_images as images_module
from tests.pipeline.tools.calls import call
from tests.workflow import applied

COHORT, MEAN = Layout(Path("out"), "chest"), ("grcsf-ensemble", 1)
NETWORKS = ("grcsf", "grcsf/repeat-2", "grcsf-ensemble")
STAGES = [
    ["ingest"],
    ["split"],
    ["unpack"],
    ["residual-maps", "--residuals", "mrm"],
    *(["predict", "--experiment", name] for name in NETWORKS),
    ["postprocess", "--experiment", "grcsf-ensemble"],
    ["measure", "--batch", "1of1"],
    ["measure"],
]


def run_stage(*stage: str) -> tuple[int, str]:
    chosen = {"model": "chest-2.zip", "root": "scans", "results": "out"}
    options = ("--config", "empty.yaml", "--set", json.dumps(chosen), "--dataset", "chest")
    return call(*stage, *options)


def apply_model() -> None:
    for stage in STAGES:
        code, said = run_stage(*stage)
        assert code == 0, said


def table() -> dict[str, dict[str, str]]:
    text = COHORT.cohort_table(".csv").read_text("utf-8")
    return {row["case"]: row for row in csv.DictReader(text.splitlines())}


def times() -> dict[Path, int]:
    """When masks, stores and weights were written."""
    files = [*Path("out").rglob("*.nii.gz"), *Path("out").rglob("*.safetensors")]
    files += [*Path("out").rglob("zarr.json"), *Path("out").rglob("cases/*")]
    return {file: file.stat().st_mtime_ns for file in files}


def without_study(made, _):
    del made.StudyInstanceUID


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which a bundle of two networks has been applied to five scans."""
    folder = tmp_path_factory.mktemp("apply")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        applied.write_bundle(folder, members=((1, 1), (1, 2)))
        applied.write_scan(Path("scans/a.nii.gz"), 1)
        applied.write_scan(Path("scans/site/b.nrrd"), 2)
        applied.write_series(Path("scans/dicom/p1"), 3)
        applied.write_series(Path("scans/dicom/p2"), 4, without_study)
        Path("scans/cut.nii.gz").write_bytes(Path("scans/a.nii.gz").read_bytes()[:300])
        Path("empty.yaml").write_text("resources: {threads: 1}\n")
        apply_model()
    return folder


@pytest.fixture
def here(done, monkeypatch):
    monkeypatch.chdir(done)


@pytest.mark.usefixtures("here")
def test_every_scan_has_a_row_and_a_faulty_one_its_reason():
    rows = table()
    assert list(rows) == ["a", "cut", "dicom-p1", "dicom-p2", "site-b"]
    assert "cut.nii.gz: truncated or damaged" in rows["cut"]["fault"]
    assert rows["cut"]["volume_ml"] == rows["cut"]["mask"] == ""
    read = parquet.read_table(COHORT.cohort_table(".parquet")).to_pylist()
    assert [row["case"] for row in read] == list(rows)
    for name in rows.keys() - {"cut"}:
        mask = read_volume(Path("out", rows[name]["mask"])).array
        voxel_ml = np.prod([float(rows[name][f"spacing_{axis}_mm"]) for axis in "zyx"]) / 1000
        volume = pytest.approx(np.count_nonzero(mask) * voxel_ml, abs=1e-6)
        assert float(rows[name]["volume_ml"]) == volume
        assert float(rows[name]["seconds"]) > 0
    page = COHORT.cohort_page.read_text("utf-8")
    assert page.count('src="data:image/png;base64,') == 5, "distributions, and four scans"


@pytest.mark.usefixtures("here")
def test_masks_are_those_of_predict_and_dicom_has_a_seg(done, tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "prediction_page", lambda *_: b"")
    shutil.copyfile("scans/site/b.nrrd", tmp_path / "site-b.nrrd")
    (tmp_path / "dicom-p1").symlink_to(done / "scans/dicom/p1")
    images = [Path("scans/a.nii.gz"), tmp_path / "site-b.nrrd", tmp_path / "dicom-p1"]
    resources = Resources(threads=1)
    images_module.predict_images(images, Path("chest-2.zip"), tmp_path / "out", resources)
    rows = table()
    for name in ("a", "site-b", "dicom-p1"):
        predicted = read_volume(tmp_path / "out" / f"{name}.nii.gz").array
        assert 0 < predicted.sum() < predicted.size
        mask = read_volume(Path("out", rows[name]["mask"])).array
        np.testing.assert_array_equal(mask, predicted)
    grid = read_geometry(Path("scans/dicom/p1"))
    seg = read_segmentation(Path("out", rows["dicom-p1"]["segmentation"]), grid)
    np.testing.assert_array_equal(seg, predicted)
    assert "no DICOM SEG: " in rows["dicom-p2"]["fault"]
    assert [name for name, row in rows.items() if row["segmentation"]] == ["dicom-p1"]


def test_a_new_scan_changes_nothing_of_the_others(done, tmp_path, monkeypatch):
    shutil.copytree(done, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    monkeypatch.setattr("pipeline.measure.cohort_page", lambda *_: "")
    before, rows = times(), table()
    applied.write_scan(Path("scans/new.nii.gz"), 9)
    apply_model()
    after = times()
    assert {file: after[file] for file in before} == before
    assert any(file.name == "new.nii.gz" for file in after.keys() - before.keys())
    again = table()
    assert {name: again[name] for name in rows} == rows
    assert again["new"]["mask"]


@pytest.mark.usefixtures("here")
def test_nobody_trains_tests_or_has_a_label():
    split = read_json(COHORT.split)
    assert split["subsets"] == {"1": {"train": [], "validation": [], "test": []}}
    assert split["unlabelled"] == ["a", "dicom-p1", "dicom-p2", "site-b"]


def test_no_table_leaves_a_scan_out_and_a_scan_without_mask_is_named(done, tmp_path, monkeypatch):
    shutil.copytree(done, tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again")
    own = batch_of("a", 2)
    assert run_stage("measure", "--batch", own)[0] == 0
    code, said = run_stage("measure")
    assert code == 1
    assert ": out/chest/measure: 0 rows of batches, expected 1" in said
    manifest = COHORT.masks(*MEAN)
    content = read_json(manifest)
    del content["cases"]["a"]
    write_json(manifest, content)
    code, said = run_stage("measure", "--batch", own)
    assert code == 1
    assert f"case a: {manifest}: no mask, expected one of every scan; run postprocess" in said


@pytest.mark.usefixtures("here")
def test_maps_that_were_given_back_count_in_the_seconds(tmp_path):
    again = Layout(tmp_path, "chest")
    shutil.copytree(COHORT.stage("predict"), again.stage("predict"))
    dataset = validated({"model": "chest-2.zip", "root": "scans"}).datasets["chest"]
    for name, row in table().items():
        if row["mask"]:
            assert seconds_spent(again, dataset, name) == float(row["seconds"])
            maps = store_attributes(COHORT.residual_store("mrm", name))["seconds"]
            assert float(row["seconds"]) > maps > 0
