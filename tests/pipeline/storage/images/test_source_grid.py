"""Every voxel keeps its place in the patient, and masks come back bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.images.geometry import IDENTITY, Geometry, is_right_angled
from pipeline.storage.images.source_grid import (
    slice_plane,
    to_source_grid,
    to_working_grid,
    working_grid,
)
from tests.pipeline.storage.images.grids import grids, indices, positions, tilted

WHOLE = st.integers(-2, 2).map(float)
ANY = st.one_of(st.just(0.0), WHOLE, st.floats(-2, 2).filter(lambda offset: abs(offset) > 0.01))
PLANES = st.sampled_from(["axial", "as_stored"])


@given(grids(ANY), PLANES)
def test_an_image_keeps_its_values_where_they_are_in_the_patient(source, plane):
    def field(points):  # linear, so that interpolation is exact
        return points @ [0.3, -0.2, 0.5] + 7

    working = working_grid(source, plane)
    image = to_working_grid(field(positions(source)), source, working)
    assert image.shape == working.shape
    assert is_right_angled(working)
    points = positions(working)
    at = indices(source, points)
    inside = ((at >= -1e-6) & (at <= np.array(source.shape) - 1 + 1e-6)).all(axis=-1)
    np.testing.assert_allclose(image[inside], field(points)[inside], atol=1e-3)
    if plane == "axial":
        assert (slice_plane(working), bool(working.axes.trace() > 2)) == ("axial", True)


@given(grids(ANY), PLANES, st.sampled_from([np.uint8, np.bool_, np.float16]))
def test_what_went_there_comes_back_bit_for_bit(source, plane, dtype):
    working = working_grid(source, plane)
    label = np.random.default_rng(0).integers(0, 4, source.shape).astype(dtype)
    there = to_working_grid(label, source, working, nearest=True)
    assert there.dtype == dtype
    assert np.count_nonzero(there) == np.count_nonzero(label)
    np.testing.assert_array_equal(to_source_grid(there, source, working), label)


@given(grids(WHOLE), PLANES)
def test_whole_pixels_interpolate_nothing(source, plane):
    working = working_grid(source, plane)
    image = np.random.default_rng(0).integers(-1000, 400, source.shape).astype(np.int16)
    moved = to_working_grid(image, source, working)
    assert moved.dtype == np.int16
    np.testing.assert_array_equal(to_source_grid(moved, source, working), image)


@given(grids())
def test_only_the_order_of_voxels_changes_at_right_angles(source):
    assert working_grid(source, "as_stored") is source
    working = working_grid(source, "axial")
    assert working_grid(working, "axial") is working
    image = np.random.default_rng(0).normal(size=source.shape)
    moved = to_working_grid(image, source, working)
    np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(image, axis=None))


def test_a_canonical_image_is_not_touched():
    image, grid = np.zeros((2, 3, 4)), Geometry((2, 3, 4), (1.0, 1.0, 1.0))
    assert working_grid(grid, "axial") is grid
    assert to_working_grid(image, grid, grid) is image


def test_a_sagittal_scan_becomes_axial():
    # slices from right to left, rows from the head down, columns from front to back
    stored = Geometry(
        (2, 4, 3), (5.0, 1.0, 0.5), (9.0, 2.0, 1.0), (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    )
    assert slice_plane(stored) == "sagittal"
    working = working_grid(stored, "axial")
    assert working == Geometry((4, 3, 2), (1.0, 0.5, 5.0), (6.0, 2.0, 1.0), IDENTITY)
    image = np.arange(24).reshape(2, 4, 3)
    moved = to_working_grid(image, stored, working)
    np.testing.assert_array_equal(moved, image.transpose(1, 2, 0)[::-1])


def test_a_tilted_block_has_its_true_volume_and_density():
    source = tilted(20, (16, 120, 60), (3.0, 0.5, 0.5))
    working = working_grid(source, "as_stored")
    assert working.spacing == pytest.approx((2.819, 0.5, 0.5), abs=1e-3)
    upright = (positions(source) - positions(source).mean(axis=(0, 1, 2))) @ working.axes
    inside = (np.abs(upright) < [5 * 2.819, 10, 10]).all(axis=-1)  # mm: 28.2 × 20 × 20
    true = 2 * 5 * 2.819 * 20 * 20
    image = np.where(inside, 300, -1000).astype(np.int16)
    label = to_working_grid(inside, source, working, nearest=True)
    assert label.sum() * np.prod(working.spacing) == pytest.approx(true, rel=0.03)
    assert label.sum() * np.prod(source.spacing) > 1.05 * true  # what the source's spacing says
    resampled = to_working_grid(image, source, working)
    dense = np.count_nonzero(resampled > -350) * np.prod(working.spacing)
    assert dense == pytest.approx(true, rel=0.03)
    assert (resampled.min(), resampled.max()) == (-1000, 300)
