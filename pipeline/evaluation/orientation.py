"""Turns stored slices as radiologists view them: from below, the patient's right on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)
Z, Y, X = 0, 1, 2  # towards the patient's head, back and left: ITK's LPS, read z, y, x
EDGES = {Z: ("S", "I"), Y: ("A", "P"), X: ("R", "L")}  # shown first, shown last


@dataclass(frozen=True)
class Orientation:
    """How stored slices (rows, columns) are turned for display."""

    transpose: bool  # rows become columns, before the flips
    flip_rows: bool
    flip_columns: bool
    edges: tuple[str, str, str, str]  # patient's sides at left, right, top, bottom

    def plane(self, stored: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """A stored slice (y, x), turned for display."""
        shown = stored.T if self.transpose else stored
        return shown[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def pixel_mm(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Height and width of a shown pixel in mm, from the stored (z, y, x) spacing."""
        _, row, column = spacing_mm
        return (column, row) if self.transpose else (row, column)


def orientation_of(direction: Sequence[float]) -> Orientation:
    """The display of slices across the first stored axis.

    Axial slices have the front at the top and the right on the left, coronal slices the head at the
    top, and sagittal slices the head at the top and the front on the left. Oblique slices take
    their nearest axes. `direction` is 9 cosines, row-major, z, y, x, as in `Geometry`.
    """
    cosines = np.asarray(direction, float).reshape(3, 3)  # (patient axis, stored axis)
    nearest = _nearest_axes(cosines)
    # the head is at the top; in a plane without z, the front is
    transpose = nearest[2] < nearest[1]
    rows, columns = (2, 1) if transpose else (1, 2)
    down, right = nearest[rows], nearest[columns]
    towards_head = down == Z
    flip_rows = bool((cosines[down, rows] > 0) == towards_head)
    flip_columns = bool(cosines[right, columns] < 0)
    return Orientation(transpose, flip_rows, flip_columns, (*EDGES[right], *EDGES[down]))


def _nearest_axes(cosines: npt.NDArray[Any]) -> list[int]:
    """The patient axis nearest to each stored axis, each used once."""
    left = np.abs(cosines)
    nearest = [0, 0, 0]
    for _ in range(3):
        patient, stored = np.unravel_index(np.argmax(left), left.shape)
        nearest[int(stored)] = int(patient)
        left[patient, :] = left[:, stored] = -1
    return nearest
