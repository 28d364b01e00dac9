"""A mask on another grid takes the nearest voxel's value, wherever that grid lies."""

from dataclasses import replace

import numpy as np

from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.nearest import nearest_on_grid
from tests.pipeline.results import OBLIQUE, ORIGIN, SPACING

GRID = Geometry((4, 6, 5), SPACING, ORIGIN, OBLIQUE)


def test_the_same_grid_changes_nothing():
    mask = np.random.default_rng(0).random(GRID.shape) > 0.5
    np.testing.assert_array_equal(nearest_on_grid(mask, GRID, GRID), mask)


def test_voxels_of_half_the_size_repeat_each_value():
    # the first of two halves lies a quarter of a voxel before the whole one's centre
    fine = Geometry((4, 6, 10), (3.0, 0.5, 0.35), (0.0, 0.0, -0.175))
    coarse = Geometry((4, 6, 5), (3.0, 0.5, 0.7))
    mask = np.random.default_rng(0).random(coarse.shape) > 0.5
    np.testing.assert_array_equal(nearest_on_grid(mask, coarse, fine), mask.repeat(2, axis=2))


def test_what_lies_outside_is_no_lesion_and_a_shift_in_mm_is_one_in_voxels():
    mask = np.ones(GRID.shape, bool)
    step = GRID.axes @ (np.array(GRID.spacing) * (1, 0, -2))
    moved = replace(GRID, origin=tuple(np.add(GRID.origin, step).tolist()))
    found = nearest_on_grid(mask, GRID, moved)
    expected = np.zeros(GRID.shape, bool)
    expected[:3, :, 2:] = True
    np.testing.assert_array_equal(found, expected)


def test_axes_in_another_order_are_found_by_their_place():
    turned = replace(
        GRID,
        shape=(5, 6, 4),
        spacing=GRID.spacing[::-1],
        direction=tuple(GRID.axes[:, ::-1].ravel().tolist()),
    )
    mask = np.random.default_rng(0).random(GRID.shape) > 0.5
    np.testing.assert_array_equal(nearest_on_grid(mask, GRID, turned), mask.transpose(2, 1, 0))


def test_half_way_between_two_voxels_the_later_one_counts():
    own = Geometry((1, 1, 4), (1.0, 1.0, 1.0))
    between = replace(own, shape=(1, 1, 3), origin=(0.0, 0.0, 0.5))
    mask = np.array([[[0, 1, 0, 1]]], np.uint8)
    assert nearest_on_grid(mask, own, between).tolist() == [[[1, 0, 1]]]
