"""Given predictions: read where they lie, scored as any other, and refused all at once."""

import gzip
import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.compare import compare
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.prediction.inputs import prediction_inputs
from pipeline.settings import Evaluation, GivenPredictions, Postprocess
from pipeline.storage.batches import parts_of
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.source_notes import source_changes
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.results import OBLIQUE, ORIGIN, RESOURCES, SLICES, SPACING

SHAPE = (6, 24, 20)
GRID = Geometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
VOXEL = Evaluation(bootstrap_samples=100)


@pytest.fixture
def tree(results_tree, box):
    """Two subsets that test a case each, and an unlabelled one; `given/` has a mask of each."""
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 8)).astype(np.uint8)
    for case in ("a", "b", "learnt"):
        results_tree.add_case(case, image, lesion, modality="MR")
    results_tree.add_case("unseen", image, modality="MR")
    results_tree.write_split([["a"], ["b"]])
    return results_tree


@pytest.fixture
def folder(tmp_path, box):
    """Masks of the tested cases, of which `a` is half found."""
    folder = tmp_path / "given"
    folder.mkdir()
    write_volume(folder / "a.nii.gz", box(SHAPE, (1, 3), (4, 8), (6, 10)), GRID)
    write_volume(folder / "b.mha", box(SHAPE, (1, 3), (4, 8), (4, 8)), GRID)
    return folder


def given(folder, **more):
    return GivenPredictions(predictions=str(folder), **more)


def predicted(tree, folder, subset=1, unlabelled=True, **more):
    settings = given(folder, **more)
    predict(tree.layout, "rival", subset, settings, 0, SLICES, RESOURCES, unlabelled=unlabelled)
    return read_json(tree.layout.predictions("rival", subset))


def mask_of(tree, case, subset=1):
    store = open_store(tree.layout.prediction_store("rival", subset, case))
    return read_array(store, "probability")


def refusal(tree, folder, **more):
    with pytest.raises(PipelineError) as raised:
        predicted(tree, folder, **more)
    return str(raised.value).splitlines()


def test_given_masks_are_scored_and_compared_as_they_are(tree, folder, box):
    for subset in (1, 2):
        predicted(tree, folder, subset)
        postprocess(tree.layout, "rival", subset, Postprocess())
    np.testing.assert_array_equal(mask_of(tree, "a"), box(SHAPE, (1, 3), (4, 8), (6, 10)))
    evaluate(tree.layout, "rival", (1, 2), VOXEL, Postprocess(), seed=0, threads=1)
    rows = pd.read_csv(tree.layout.scores("rival"), index_col="case")
    # of 32 lesion voxels each, 16 in common
    assert rows["dice"].tolist() == [0.5, 1.0]
    assert rows["iou"].tolist() == [pytest.approx(16 / 48), 1.0]
    compare(tree.layout, ["rival"], (1, 2), VOXEL, seed=0)
    (row,) = [
        line for line in tree.layout.table(".md").read_text("utf-8").splitlines() if "rival" in line
    ]
    assert row.split("|")[-2].strip() == "–", "nothing is known of a network behind them"


def test_each_subset_takes_its_own_cases_and_an_unlabelled_one_only_with_a_file(
    tree, folder, box, caplog
):
    write_volume(folder / "learnt.nii.gz", np.ones(SHAPE, np.uint8), GRID)
    with caplog.at_level(logging.INFO):
        assert list(predicted(tree, folder)["cases"]) == ["a"]
    assert "rival, subset 1: not tested here: b, learnt" in caplog.text
    assert list(predicted(tree, folder, 2)["cases"]) == ["b"]
    write_volume(folder / "unseen.nrrd", box(SHAPE, (0, 1), (0, 2), (0, 2)), GRID)
    assert list(predicted(tree, folder)["cases"]) == ["a", "unseen"]
    assert mask_of(tree, "unseen").sum() == 4
    assert list(predicted(tree, folder, unlabelled=False)["cases"]) == ["a"]


def test_every_fault_of_every_file_is_told_at_once(tree, folder):
    tree.write_split([["a", "b", "learnt"]])
    (folder / "a.nii.gz").write_bytes(gzip.compress(b"no image"))
    moved = Geometry((6, 24, 19), SPACING, (0.0, *ORIGIN[1:]), OBLIQUE)
    write_volume(folder / "b.mha", np.zeros(moved.shape, np.uint8), moved)
    values = np.zeros(SHAPE, np.int16)
    values[0, 0, :3] = (2, 3, 3)
    write_volume(folder / "unseen.nii", values, GRID)
    for name in ("other_001.nii.gz", "other_002.nii", "other_002.mha"):
        write_volume(folder / name, np.zeros(SHAPE, np.uint8), GRID)
    lines = refusal(tree, folder)
    said = "\n".join(lines)
    assert f"case learnt: {folder}: no mask, expected one of every test case, named CASE" in said
    assert f"{folder}/other_001.nii.gz: the mask of 'other_001', which is no case" in said
    assert f"case other_002: {folder}: several masks: other_002.mha, other_002.nii" in said
    assert f"case a: {folder}/a.nii.gz: " in said
    wrong = f"case b: {folder}/b.mha: mask "
    assert f"{wrong}shape (6, 24, 19), expected the image's (6, 24, 20)" in said
    assert f"{wrong}origin (0, 30.25, -101) mm, expected the image's (-12.5," in said
    assert "resample it on to the image, or set experiments.rival.resample: true" in said
    assert "unseen.nii: 3 voxels of value 2, 3, expected 0 and 1 alone; export the lesion" in said
    assert len(lines) == 9
    assert not tree.layout.predictions("rival", 1).exists()


def test_what_is_named_like_a_mask_and_is_no_file_is_told_as_what_it_is(tree, folder):
    tree.write_split([["a", "b"]])
    for name in ("a.nii.gz", "b.mha"):
        (folder / name).unlink()
    (folder / "a.nii.gz").symlink_to("away.nii.gz")
    (folder / "b.mha").mkdir()
    assert refusal(tree, folder) == [
        f"case a: {folder}/a.nii.gz: found a link to what is not there, expected a file; put the "
        "mask itself there",
        f"case b: {folder}/b.mha: found a folder, expected a file; put the mask itself there",
    ]
    dataset = SimpleNamespace(experiments={"rival": given(folder)})
    assert prediction_inputs(tree.layout, dataset, "rival", 1, parts_of) == []


def test_a_grid_within_rounding_of_the_image_s_is_the_image_s(tree, folder, box):
    rounded = Geometry(SHAPE, SPACING, tuple(np.float32(ORIGIN).tolist()), OBLIQUE)
    near = Geometry(SHAPE, tuple(side * (1 + 1e-6) for side in SPACING), rounded.origin, OBLIQUE)
    mask = box(SHAPE, (1, 3), (4, 8), (6, 10))
    write_volume(folder / "a.nii.gz", mask, near)
    predicted(tree, folder)
    np.testing.assert_array_equal(mask_of(tree, "a"), mask)


def test_another_grid_is_resampled_where_that_is_asked_for(tree, folder, box):
    # each voxel of the image is two along x in the mask's grid
    mask = box(SHAPE, (1, 3), (4, 8), (6, 10))
    spacing = (*SPACING[:2], SPACING[2] / 2)
    step = GRID.axes @ np.array([0, 0, -SPACING[2] / 4])
    fine = Geometry((6, 24, 40), spacing, tuple(np.add(ORIGIN, step).tolist()), OBLIQUE)
    write_volume(folder / "a.nii.gz", mask.repeat(2, axis=2), fine)
    assert any("resample: true" in line for line in refusal(tree, folder))
    predicted(tree, folder, resample=True)
    np.testing.assert_array_equal(mask_of(tree, "a"), mask)
    away = Geometry(SHAPE, SPACING, (900.0, 900.0, 900.0), OBLIQUE)
    write_volume(folder / "a.nii.gz", mask, away)
    (line,) = refusal(tree, folder, resample=True)
    assert "a mask that lies wholly outside the image, expected one that overlaps it" in line


def test_only_an_edited_file_s_case_is_made_anew_and_its_file_is_known(tree, folder):
    tree.write_split([["a", "b"]])
    first = predicted(tree, folder)["cases"]
    note = tree.layout.sources("predict rival 1")
    assert source_changes(note) == ([], {}, False)
    (folder / "b.mha").rename(folder / "b.mhd.old")
    write_volume(folder / "b.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
    second = predicted(tree, folder)["cases"]
    assert (first["a"] == second["a"], first["b"] == second["b"]) == (True, False)
    write_volume(folder / "b.nii.gz", np.ones(SHAPE, np.uint8), GRID)
    assert source_changes(note).replaced == [folder / "b.nii.gz"]
    made_by = open_store(tree.layout.prediction_store("rival", 1, "a")).attrs["made_by"]
    assert made_by["given"] == [file_digest(folder / "a.nii.gz")]


def test_a_folder_that_is_not_there_is_one_line(tree, tmp_path):
    key = "datasets.tiny.experiments.rival.predictions"
    (line,) = refusal(tree, tmp_path / "away")
    assert line.startswith(f"{key}: {tmp_path}/away: found nothing there, expected a folder with")
    (tmp_path / "file").touch()
    (line,) = refusal(tree, tmp_path / "file")
    assert "found a file, expected a folder with one mask a case" in line


def test_a_folder_of_the_data_set_s_own_results_is_refused(tree):
    own = tree.layout.stage("postprocess") / "unet"
    own.mkdir(parents=True)
    with pytest.raises(
        PipelineError, match=r"rival\.predictions: .*unet: found a folder of this .*"
    ):
        predicted(tree, own)
