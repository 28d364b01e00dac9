"""Submissions: what is written is what the challenge takes, and what it would refuse is refused."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.postprocess import postprocess
from pipeline.settings import Postprocess
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.volumes import read_volume, write_volume
from pipeline.storage.masks import grid_differences, store_geometry
from pipeline.storage.zarr_store import open_store
from pipeline.tools.submission import check_submission, submission
from tests.pipeline.results import rewrite_attributes
from tests.pipeline.storage.images.grids import attributes_of, turned

SHAPE = (6, 24, 20)


@pytest.fixture
def tree(results_tree, box):
    """One training scan and two test scans without reference; calcium in one of them."""
    image = np.full(SHAPE, 40, np.int16)
    image[2:4, 5:8, 5:8] = 300
    for case in ("TRV1P1", "TEV1P1", "TEV2P3"):
        label = np.zeros(SHAPE, np.uint8) if case.startswith("TR") else None
        results_tree.add_case(case, image, label, suffix=".mhd")
    results_tree.write_split([["TRV1P1"]])
    lesion = box(SHAPE, (2, 4), (5, 8), (4, 8))
    found = {"TEV1P1": lesion * 0.9, "TEV2P3": np.zeros(SHAPE)}
    results_tree.add_predictions("unetpp", 1, found)
    return results_tree


def made(tree, folder, method="calcium"):
    postprocess(tree.layout, "unetpp", 1, Postprocess(method=method))
    submission(tree.layout, "unetpp", 1, folder)


def grid(tree):
    return store_geometry(open_store(tree.layout.case_store("TEV1P1")))


def test_every_test_scan_gets_one_short_metaimage_on_its_grid(tree, tmp_path, box):
    made(tree, tmp_path)
    names = [f"{case}R.{end}" for case in ("TEV1P1", "TEV2P3") for end in ("mhd", "raw")]
    assert sorted(path.name for path in tmp_path.iterdir() if "R." in path.name) == names
    found = read_volume(tmp_path / "TEV1P1R.mhd")
    assert found.array.dtype == np.int16
    expected = 4 * box(SHAPE, (2, 4), (5, 8), (5, 8))
    np.testing.assert_array_equal(found.array, expected)
    np.testing.assert_allclose(found.geometry.origin, grid(tree).origin)
    assert not read_volume(tmp_path / "TEV2P3R.mhd").array.any()
    header = (tmp_path / "TEV1P1R.mhd").read_text("utf-8")
    assert "ElementType = MET_SHORT" in header
    assert "CompressedData = False" in header


def test_the_mask_of_a_scan_that_was_turned_goes_back_to_the_scan_s_grid(tree, tmp_path):
    scan = store_geometry(open_store(tree.layout.case_store("TEV1P1")))
    _, source = turned(np.zeros(SHAPE), scan)
    rewrite_attributes(tree.layout.case_store("TEV1P1"), source_grid=attributes_of(source))
    made(tree, tmp_path)
    found = read_volume(tmp_path / "TEV1P1R.mhd")
    assert grid_differences(found.geometry, source) == []
    calcium = np.zeros(SHAPE)
    calcium[2:4, 5:8, 5:8] = 4
    np.testing.assert_array_equal(found.array, turned(calcium, scan)[0])


def test_masks_that_are_no_calcium_are_refused_and_so_is_nothing(tree, tmp_path):
    with pytest.raises(PipelineError, match="6 labelled voxels are not > 130 HU"):
        made(tree, tmp_path, method="none")
    split = read_json(tree.layout.split)
    write_json(tree.layout.split, {**split, "unlabelled": []})
    with pytest.raises(PipelineError, match="no test scan without reference"):
        submission(tree.layout, "unetpp", 1, tmp_path)


def test_arteries_named_by_hand_pass(tree, tmp_path):
    made(tree, tmp_path)
    labels = read_volume(tmp_path / "TEV1P1R.mhd").array
    write_volume(tmp_path / "TEV1P1R.mhd", np.where(labels > 0, 2, 0).astype(np.int16), grid(tree))
    check_submission(tree.layout, tmp_path)


def damage(folder, here, kind):
    path = folder / "TEV1P1R.mhd"
    labels = read_volume(path).array
    match kind:
        case "missing":
            path.unlink()
            return
        case "further":
            path = folder / "TEV9P9R.mhd"
        case "type":
            labels = labels.astype(np.uint8)
        case "value":
            labels[0, 0, 0] = 5
        case "grid":
            here = replace(here, spacing=(1.0, 1.0, 1.0))
        case "below 130 HU":
            labels[0, 0, 0] = 1
        case "two arteries":
            labels[2] = np.where(labels[2] > 0, 1, 0)
    write_volume(path, labels, here, compress=False)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "TEV1P1R.mhd: not there"),
        ("further", "TEV9P9R.mhd: belongs to no test scan"),
        ("type", "found uint8 voxels"),
        ("value", "the values [0, 4, 5], expected 0 to 4"),
        ("grid", "has spacing"),
        ("below 130 HU", "1 labelled voxels are not > 130 HU"),
        ("two arteries", "1 further labels in lesions"),
    ],
)
def test_what_the_challenge_would_refuse_is_told(tree, tmp_path, kind, said):
    made(tree, tmp_path)
    damage(tmp_path, grid(tree), kind)
    with pytest.raises(PipelineError) as raised:
        check_submission(tree.layout, tmp_path)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2, "one fault, one line, and no more"
