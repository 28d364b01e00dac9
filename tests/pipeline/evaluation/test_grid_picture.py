"""Boxes of two grids lie where their outermost voxels do."""

from itertools import product

from pipeline.evaluation.check_section import box_corners, grid_picture
from pipeline.storage.volumes import Geometry


def test_a_grid_s_corners_are_where_its_outermost_voxels_are():
    grid = Geometry((3, 4, 5), (2.0, 1.0, 0.5), (10.0, 0.0, 0.0), (1, 0, 0, 0, 0, -1, 0, 1, 0))
    # y runs along the patient's +x, x along −y
    expected = {(10 + z, y, x) for z, y, x in product((0, 4), (0, -2), (0, 3))}
    assert set(map(tuple, box_corners(grid).tolist())) == expected
    assert box_corners(grid)[0].tolist() == [10, 0, 0]
    assert grid_picture(grid, Geometry((8, 24, 20), (3.0, 0.5, 0.5))).startswith(b"\x89PNG")
