"""Masks: geometry, format, post-processing by method, and what is not made again."""

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.postprocess import postprocess
from pipeline.settings import Postprocess
from pipeline.storage.files import read_json
from pipeline.storage.images.geometry import Geometry, is_right_angled
from pipeline.storage.images.source_grid import to_working_grid, working_grid
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.masks import grid_differences, read_mask
from pipeline.storage.zarr_store import open_store
from tests.pipeline.storage.images.grids import attributes_of, tilted

SHAPE = (6, 24, 20)


@pytest.fixture
def heart(results_tree, box):
    """A MetaImage heart: a calcification of 18 voxels > 130 HU, and one single bright voxel."""
    image = np.full(SHAPE, 40, np.int16)
    image[2:4, 5:8, 5:8] = 300
    image[5, 20, 15] = 200
    image[1, 1, 1] = 130
    label = box(SHAPE, (2, 4), (5, 8), (5, 8)).astype(np.uint8)
    results_tree.add_case("heart", image, label, suffix=".mhd")
    probability = np.zeros(SHAPE)
    probability[2:4, 5:8, 4:8] = probability[5, 20, 15] = probability[1, 1, 1] = 0.9
    results_tree.add_predictions("unetpp", 1, {"heart": probability})
    return results_tree


def written(tree, case="heart", suffix=".mha"):
    return read_volume(tree.layout.mask("unetpp", 1, case, suffix))


@pytest.mark.parametrize(
    ("source", "suffix", "dtype"),
    [(".v2.MHD", ".mha", np.int16), (".nii.gz", ".nii.gz", np.uint8), ("", ".nii.gz", np.uint8)],
)
def test_mask_lies_exactly_where_its_source_does(results_tree, box, source, suffix, dtype):
    wanted = box(SHAPE, (1, 3), (4, 9), (2, 6))
    results_tree.add_case("a", np.zeros(SHAPE, np.int16), suffix=source)
    results_tree.add_predictions("unetpp", 1, {"a": wanted * 0.5})
    postprocess(results_tree.layout, "unetpp", 1, Postprocess())
    mask = written(results_tree, "a", suffix)
    assert mask.array.dtype == dtype
    np.testing.assert_array_equal(mask.array, wanted)
    attributes = results_tree.cases["a"]
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(mask.geometry, name), attributes[name], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "voxels"),
    [
        (Postprocess(), 26),
        (Postprocess(probability=0.95), 0),
        (Postprocess(method="components", min_volume_mm3=2.0), 24),
        (Postprocess(method="calcium"), 19),
        (Postprocess(method="calcium", min_volume_mm3=2.0), 18),
        (Postprocess(method="calcium", threshold_hu=129), 20),
    ],
)
def test_each_method_keeps_what_it_should(heart, settings, voxels):
    postprocess(heart.layout, "unetpp", 1, settings)
    assert np.count_nonzero(written(heart).array) == voxels
    manifest = read_json(heart.layout.masks("unetpp", 1))
    assert manifest["cases"]["heart"]["voxels"] == voxels
    assert manifest["cases"]["heart"]["file"] == "heart.mha"
    assert manifest["outputs"] == ["subset-1/heart.mha"]


def test_growing_takes_the_whole_candidate_that_the_prediction_touches(results_tree, box):
    image = np.where(box(SHAPE, (1, 4), (3, 9), (3, 9)), 500, 0).astype(np.int16)
    results_tree.add_case("heart", image, suffix=".mhd")
    results_tree.add_predictions("unetpp", 1, {"heart": box(SHAPE, (2, 3), (3, 4), (3, 4)) * 1.0})
    postprocess(results_tree.layout, "unetpp", 1, Postprocess(method="calcium", grow=True))
    np.testing.assert_array_equal(written(results_tree).array, image > 130)


def test_a_current_mask_is_kept_and_one_that_was_edited_or_set_otherwise_made_again(heart):
    path = heart.layout.mask("unetpp", 1, "heart", ".mha")
    manifest = heart.layout.masks("unetpp", 1)
    postprocess(heart.layout, "unetpp", 1, Postprocess())
    made, before = path.stat().st_mtime_ns, read_json(manifest)
    manifest.unlink()
    postprocess(heart.layout, "unetpp", 1, Postprocess())
    assert path.stat().st_mtime_ns == made
    assert manifest.exists()
    path.write_bytes(b"edited")
    postprocess(heart.layout, "unetpp", 1, Postprocess())
    assert np.count_nonzero(written(heart).array) == 26
    postprocess(heart.layout, "unetpp", 1, Postprocess(probability=0.95))
    assert not written(heart).array.any()
    after = read_json(manifest)
    assert after["cases"]["heart"]["fingerprint"] != before["cases"]["heart"]["fingerprint"]


def test_calcium_in_an_image_without_hu_is_refused(results_tree):
    results_tree.add_case("head", np.ones(SHAPE, np.float32), modality="MR")
    results_tree.add_predictions("unetpp", 1, {"head": np.zeros(SHAPE)})
    with pytest.raises(PipelineError, match=r"head.*'as stored'.*expected HU"):
        postprocess(results_tree.layout, "unetpp", 1, Postprocess(method="calcium"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mhd"])
@pytest.mark.parametrize(
    "source",
    [
        tilted(20, SHAPE, (3.0, 0.5, 0.7), (1.0, 2.0, 3.0)),  # fractional pixels
        tilted(np.degrees(np.arctan(1 / 3)), SHAPE, (10**0.5, 1.0, 1.0)),  # 1 pixel a slice
        Geometry(SHAPE, (5.0, 1.0, 0.5), (9, 2, 1), (0, -1, 0, 0, 0, 1, 1, 0, 0)),  # sagittal
    ],
)
def test_a_mask_goes_back_to_the_grid_of_a_tilted_or_sagittal_file(results_tree, source, suffix):
    working = working_grid(source, "axial")
    wanted = np.random.default_rng(0).random(SHAPE) > 0.5  # on the file's grid
    there = to_working_grid(wanted, source, working, nearest=True)
    image = np.zeros(working.shape, np.int16)
    of_grid = {**attributes_of(working), "source_grid": attributes_of(source)}
    results_tree.add_case("a", image, suffix=suffix, **of_grid)
    results_tree.add_predictions("unetpp", 1, {"a": there * 0.9})
    postprocess(results_tree.layout, "unetpp", 1, Postprocess())
    kind = ".nii.gz" if suffix == ".nii.gz" and is_right_angled(source) else ".mha"
    mask = read_volume(results_tree.layout.mask("unetpp", 1, "a", kind), tilted=True)
    np.testing.assert_array_equal(mask.array, wanted)
    assert grid_differences(mask.geometry, source) == []
    assert read_json(results_tree.layout.masks("unetpp", 1))["cases"]["a"]["voxels"] == wanted.sum()
    store = open_store(results_tree.layout.case_store("a"))
    np.testing.assert_array_equal(read_mask(results_tree.layout, "unetpp", 1, "a", store), there)
