"""Slices stand as radiologists see them, whatever the axes they are stored in."""

import numpy as np
import pytest

from pipeline.evaluation.orientation import orientation_of
from tests.pipeline.results import OBLIQUE

LPS = (1, 0, 0, 0, 1, 0, 0, 0, 1)
RAS = (1, 0, 0, 0, -1, 0, 0, 0, -1)
# stored axes: slices along x, rows along z (towards the head), columns along y
SAGITTAL = (0, 1, 0, 0, 0, 1, 1, 0, 0)
# stored axes: slices along z, rows along x, columns along y
TURNED = (1, 0, 0, 0, 0, 1, 0, 1, 0)


@pytest.mark.parametrize(
    ("direction", "turned", "edges"),
    [
        (LPS, [[1, 2], [3, 4]], ("R", "L", "A", "P")),
        (RAS, [[4, 3], [2, 1]], ("R", "L", "A", "P")),
        (SAGITTAL, [[3, 4], [1, 2]], ("A", "P", "S", "I")),
        (TURNED, [[1, 3], [2, 4]], ("R", "L", "A", "P")),
    ],
)
def test_slices_are_turned_as_radiologists_see_them(direction, turned, edges):
    orientation = orientation_of(direction)
    np.testing.assert_array_equal(orientation.plane(np.array([[1, 2], [3, 4]])), turned)
    assert orientation.edges == edges


def test_transposed_slices_swap_their_pixel_sides():
    assert orientation_of(LPS).pixel_mm((3.0, 0.5, 0.7)) == (0.5, 0.7)
    assert orientation_of(TURNED).pixel_mm((3.0, 0.5, 0.7)) == (0.7, 0.5)


def test_oblique_slices_take_their_nearest_axes():
    orientation = orientation_of(OBLIQUE)
    assert (orientation.transpose, orientation.flip_rows, orientation.flip_columns) == (False,) * 3
