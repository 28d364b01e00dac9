"""A mask on another grid, by nearest neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.images.geometry import Geometry

Array = npt.NDArray[Any]  # (z, y, x)
EXACT = 6  # decimals of a voxel's place, so that rounding decides nothing


def nearest_on_grid(array: Array, own: Geometry, wanted: Geometry) -> Array:
    """An array of one grid on another: the value of the nearest voxel, and 0 outside its grid.

    Half-way between two voxels the one of the higher index counts. A plane at a time.
    """
    index_of = np.linalg.inv(own.axes * own.spacing)  # mm → voxels of `own`
    step = index_of @ (wanted.axes * wanted.spacing)  # (voxel of own, voxel of wanted)
    start = index_of @ np.subtract(wanted.origin, own.origin)
    rows, columns = np.indices(wanted.shape[1:], dtype=float)
    found = np.zeros(wanted.shape, array.dtype)
    limits = np.array(array.shape)[:, None, None]
    for z in range(wanted.shape[0]):
        first = (start + z * step[:, 0])[:, None, None]
        place = first + step[:, 1, None, None] * rows + step[:, 2, None, None] * columns
        nearest = np.floor(np.round(place, EXACT) + 0.5).astype(int)  # (3, y, x)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
        found[z][inside] = array[tuple(nearest[:, inside])]
    return found
