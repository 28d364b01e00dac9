"""From the grid of a file to the grid that the stages work on, and back.

The working grid is right-angled and, with `slices.plane: axial`, has the slices nearest to axial:
axes are permuted and flipped, never resampled. Tilted slices are moved in their own plane until
they stand straight above one another: those of an image by their exact offset, linearly; those of
labels and of all that goes back by the nearest whole pixels, so that a mask comes back bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.images.geometry import Geometry, is_tilted

Array = npt.NDArray[Any]  # (z, y, x)
Turn = tuple[tuple[int, ...], tuple[slice, ...]]  # the source's axes in order, and their flips
WHOLE = 1e-3  # pixels: an offset so near to whole ones is whole, and interpolates nothing


def working_grid(source: Geometry, plane: str) -> Geometry:
    """The grid on which the stages see an image: `source` itself, if it is such a one already.

    `plane` is `slices.plane`; `axial` gives the direction nearest to ITK's identity: slices from
    below upwards, their rows from front to back, their columns from the patient's right to left.
    """
    straight = _straight(source)
    if plane != "axial":
        return straight
    order = _axial_order(straight)
    flipped = np.diag(straight.axes[:, order]) < 0
    if order == [0, 1, 2] and not flipped.any():
        return straight
    steps = (straight.axes * straight.spacing)[:, order]  # mm (patient axis, working axis)
    shape, spacing = (np.array(sides)[order] for sides in (straight.shape, straight.spacing))
    origin = straight.origin + steps @ np.where(flipped, shape - 1, 0)
    axes = straight.axes[:, order] * np.where(flipped, -1.0, 1.0) + 0.0  # no -0
    return Geometry(*(tuple(each.ravel().tolist()) for each in (shape, spacing, origin, axes)))


def slice_plane(grid: Geometry) -> str:
    """Which of the patient's planes the slices of a right-angled grid are nearest to."""
    return ("axial", "coronal", "sagittal")[_axial_order(grid).index(0)]


def _axial_order(grid: Geometry) -> list[int]:
    """The stored axis nearest to each of the patient's axes z, y and x, each used once."""
    nearness = np.abs(grid.axes)
    # rounded: of equally near ones the first, which changes least
    return max(
        map(list, itertools.permutations(range(3))),
        key=lambda order: round(float(nearness[range(3), order].sum()), 6),
    )


def to_working_grid(
    array: Array, source: Geometry, working: Geometry, *, nearest: bool = False
) -> Array:
    """An array of the file's grid on its `working_grid`; the same array if these are one.

    What lies outside a tilted image is its minimum, air in a CT. `nearest` is for labels.
    """
    if source == working:
        return array
    order, flips = _turn(_straight(source), working)
    straight = _straightened(array, source, nearest) if is_tilted(source) else array
    return np.ascontiguousarray(straight.transpose(order)[flips])


def to_source_grid(array: Array, source: Geometry, working: Geometry) -> Array:
    """An array of the working grid on the file's: the exact inverse for labels and masks."""
    if source == working:
        return array
    order, flips = _turn(_straight(source), working)
    straight = array[flips].transpose(np.argsort(order))
    if is_tilted(source):
        _, rows, columns = source.shape
        corners = _whole_offsets(source)
        straight = np.stack(
            [
                plane[y : y + rows, x : x + columns]
                for plane, (y, x) in zip(straight, corners, strict=True)
            ]
        )
    return np.ascontiguousarray(straight)


def _turn(straight: Geometry, working: Geometry) -> Turn:
    """How a right-angled grid's axes are permuted, then flipped, to become the working ones."""
    between = straight.axes.T @ working.axes  # (source's axis, working axis): 0, 1 or -1
    order = np.abs(between).argmax(axis=0)
    flipped = between[order, range(3)] < 0
    return tuple(order.tolist()), tuple(slice(None, None, -1 if flip else 1) for flip in flipped)


def _straight(source: Geometry) -> Geometry:
    """The right-angled grid of a tilted one: as many slices, enlarged so that nothing is cut."""
    if not is_tilted(source):
        return source
    normal, offsets = _normal_and_offsets(source)
    first, last = _extent(offsets)
    _, y, x = source.axes.T
    _, row_mm, column_mm = source.spacing
    origin = source.origin + first[0] * row_mm * y + first[1] * column_mm * x
    step = source.spacing[0] * float(source.axes[:, 0] @ normal)
    rows, columns = (np.array(source.shape[1:]) + last - first).tolist()
    axes = np.stack([normal, y, x], axis=1)
    return replace(
        source,
        shape=(source.shape[0], rows, columns),
        spacing=(step, row_mm, column_mm),
        origin=tuple(origin.tolist()),
        direction=tuple(axes.ravel().tolist()),
    )


def _normal_and_offsets(source: Geometry) -> tuple[Array, Array]:
    """The slices' normal, and each slice's offset in its plane in pixels (z, 2), y and x."""
    z, y, x = source.axes.T
    normal = np.cross(y, x)
    normal *= np.sign(normal @ z) / np.linalg.norm(normal)
    step = np.linalg.solve(np.stack([normal, y, x], axis=1), source.spacing[0] * z)  # mm
    offsets = np.arange(source.shape[0])[:, None] * (step[1:] / source.spacing[1:])
    whole = np.rint(offsets)
    return normal, np.where(np.abs(offsets - whole) < WHOLE, whole, offsets)


def _extent(offsets: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The whole pixels (y, x) by which a grid grows at its first and at its last side."""
    return np.floor(offsets.min(axis=0)).astype(int), np.ceil(offsets.max(axis=0)).astype(int)


def _whole_offsets(source: Geometry) -> Sequence[Sequence[int]]:
    """Where each slice's first pixel (y, x) lies on the straight grid, to the nearest pixel."""
    _, offsets = _normal_and_offsets(source)
    corners: list[list[int]] = (np.rint(offsets).astype(int) - _extent(offsets)[0]).tolist()
    return corners


def _straightened(array: Array, source: Geometry, nearest: bool) -> Array:
    """An array of a tilted grid on its straight one."""
    _, rows, columns = source.shape
    fill = 0 if nearest else array.min()
    moved = np.full(_straight(source).shape, fill, array.dtype)
    if nearest:
        for plane, part, (y, x) in zip(moved, array, _whole_offsets(source), strict=True):
            plane[y : y + rows, x : x + columns] = part
        return moved
    from scipy import ndimage  # imported here: a plan needs none

    _, offsets = _normal_and_offsets(source)
    shifts = offsets - _extent(offsets)[0]
    for plane, part, shift in zip(moved, array, shifts, strict=True):
        wide = np.full(plane.shape, fill, np.float64)
        wide[:rows, :columns] = part
        shifted = ndimage.shift(wide, shift, order=1, mode="grid-constant", cval=float(fill))
        plane[:] = np.rint(shifted) if array.dtype.kind in "iu" else shifted
    return moved
