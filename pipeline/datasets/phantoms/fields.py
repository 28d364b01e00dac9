"""What all phantoms share: grids in mm, smooth random fields, soft shapes, noise, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.storage.volumes import IDENTITY, Geometry

Array = npt.NDArray[np.floating[Any]]  # float32 throughout
Point = Sequence[float] | npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PhantomCase:
    """One case before it is written.

    Attributes:
        image: (z, y, x), HU or arbitrary units.
        label: (z, y, x) uint8.
        geometry: the grid of both.
        truth: the known facts about the case, as JSON values.
        decoy: a contrast scan of the case that no adapter may read, or None.
    """

    image: npt.NDArray[Any]
    label: npt.NDArray[np.uint8]
    geometry: Geometry
    truth: dict[str, Any]
    decoy: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Grid:
    """A voxel grid around the origin; `spacing` in mm, both z, y, x."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def extent(self) -> tuple[float, ...]:
        """Size of the field of view in mm: z, y, x."""
        return tuple(n * step for n, step in zip(self.shape, self.spacing, strict=True))

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing))

    def axes(self) -> tuple[Array, Array, Array]:
        """Voxel centres in mm from the middle: (z, 1, 1), (1, y, 1), (1, 1, x)."""
        lines = [
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing, strict=True)
        ]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def points(self, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Positions (n, 3) in mm from the middle, of voxel indices (n, 3)."""
        middle = (np.array(self.shape) - 1) / 2
        positions: npt.NDArray[np.float64] = (indices - middle) * np.array(self.spacing)
        return positions

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice] | None:
        """The voxels between two corners in mm, or None if there are none."""
        parts = []
        for n, step, start, stop in zip(self.shape, self.spacing, low, high, strict=True):
            first = max(0, int(np.floor(start / step + (n - 1) / 2)))
            last = min(n, int(np.ceil(stop / step + (n - 1) / 2)) + 1)
            if first >= last:
                return None
            parts.append(slice(first, last))
        return parts[0], parts[1], parts[2]


def oblique(about_z: float, about_x: float, mirrored: bool = False) -> tuple[float, ...]:
    """Direction cosines (z, y, x) of a grid turned by two angles in degrees.

    Args:
        about_z: turn in the slice plane.
        about_x: tilt of the slice plane.
        mirrored: y and x run backwards, as in most NIfTI files.
    """
    z, x = np.deg2rad([about_z, about_x])
    turn = np.array([[1, 0, 0], [0, np.cos(z), np.sin(z)], [0, -np.sin(z), np.cos(z)]])
    tilt = np.array([[np.cos(x), np.sin(x), 0], [-np.sin(x), np.cos(x), 0], [0, 0, 1]])
    flip = np.diag([1.0, -1.0, -1.0] if mirrored else [1.0, 1.0, 1.0])
    return tuple(float(cosine) for cosine in (turn @ tilt @ flip).ravel())


def centred_geometry(grid: Grid, direction: tuple[float, ...] = IDENTITY) -> Geometry:
    """The grid in the patient, turned about its middle, which lies at (0, 0, 0) mm."""
    to_first = (np.array(grid.shape) - 1) / 2 * np.array(grid.spacing)
    origin = -np.array(direction).reshape(3, 3) @ to_first
    return Geometry(
        grid.shape, grid.spacing, (float(origin[0]), float(origin[1]), float(origin[2])), direction
    )


def random_field(rng: np.random.Generator, grid: Grid, scale_mm: float) -> Array:
    """A smooth random field (z, y, x) of about zero mean and unit variance.

    Cubic B-splines over random knots give the same field on every grid of the same extent, only
    sampled finer or coarser.
    """
    weights = []
    for n, step in zip(grid.shape, grid.spacing, strict=True):
        knots = int(np.ceil(n * step / scale_mm)) + 4
        position = ((np.arange(n) + 0.5) * step / scale_mm)[:, None] + 1.5
        weights.append(_cubic(np.abs(position - np.arange(knots))).astype(np.float32))
    size = tuple(weight.shape[1] for weight in weights)
    field = rng.standard_normal(size, dtype=np.float32) / np.float32(0.48**1.5)
    field = np.tensordot(weights[0], field, (1, 0))
    field = np.matmul(weights[1], field)
    result: Array = np.matmul(field, weights[2].T)
    return result


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clip(0) ** 3 / 6
    return np.where(distance < 1, near, far)


def radius(z: Array, y: Array, x: Array, centre: Point, radii: Point) -> Array:
    """Relative distance from an ellipsoid's centre, 1 on its surface; centre and radii in mm."""
    squares = [
        ((axis - np.float32(middle)) / np.float32(size)) ** 2
        for axis, middle, size in zip((z, y, x), centre, radii, strict=True)
    ]
    result: Array = np.sqrt(squares[0] + squares[1] + squares[2])
    return result


def inside(distance_mm: Array, width_mm: float) -> Array:
    """Share in [0, 1] of each voxel inside a surface; `distance_mm` is positive inside."""
    result: Array = np.clip(distance_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1)
    return result


def blend(image: Array, value: Array | float, share: Array) -> None:
    """Replace this share of every voxel by `value`, in place."""
    image += share * (np.asarray(value, np.float32) - image)


def capsule(
    grid: Grid, start: Point, end: Point, radii_mm: tuple[float, float]
) -> tuple[tuple[slice, slice, slice], Array] | None:
    """A tube with round ends: its box of voxels, and each voxel's share; None outside the grid.

    Args:
        grid: the grid.
        start: first end in mm (z, y, x).
        end: other end.
        radii_mm: radius at each end.
    """
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    margin = max(radii_mm) + max(grid.spacing)
    box = grid.box(np.minimum(first, last) - margin, np.maximum(first, last) + margin)
    if box is None:
        return None
    axes = [axis[cut] for axis, cut in zip(grid.axes(), _aligned(box), strict=True)]
    along = last - first
    length = float(along @ along) + 1e-6
    offsets = [axis - corner for axis, corner in zip(axes, first, strict=True)]
    dot = offsets[0] * along[0] + offsets[1] * along[1] + offsets[2] * along[2]
    t = np.clip(dot / np.float32(length), 0, 1)
    gaps = [(offset - t * step) ** 2 for offset, step in zip(offsets, along, strict=True)]
    distance = np.sqrt(gaps[0] + gaps[1] + gaps[2])
    radius_mm = radii_mm[0] + t * np.float32(radii_mm[1] - radii_mm[0])
    return box, inside((radius_mm - distance).astype(np.float32), soft_width(grid))


def _aligned(box: tuple[slice, slice, slice]) -> list[tuple[slice, slice, slice]]:
    every = slice(None)
    return [(box[0], every, every), (every, box[1], every), (every, every, box[2])]


def soft_width(grid: Grid) -> float:
    """Width in mm over which an edge goes from 0 to 1: the mean edge of a voxel."""
    return float(np.cbrt(grid.voxel_mm3))


def blur(image: Array, grid: Grid, fwhm_mm: float) -> Array:
    """The image under a Gaussian point spread; axes with a width far below a voxel stay sharp."""
    sigmas = [fwhm_mm / 2.355 / step for step in grid.spacing]
    result: Array = image
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.25:
            result = ndimage.gaussian_filter1d(result, sigma, axis=axis, truncate=3)
    return result


def ct_scan(rng: np.random.Generator, noise_free: Array, sigma: float) -> npt.NDArray[np.int16]:
    """The stored image (z, y, x) in HU: noise of deviation `sigma`, correlated in the plane."""
    noise = rng.standard_normal(noise_free.shape, dtype=np.float32)
    # averages of 2 × 2 pixels halve the deviation
    noisy = ndimage.uniform_filter1d(ndimage.uniform_filter1d(noise, 2, axis=2), 2, axis=1)
    noisy *= np.float32(2 * sigma)
    noisy += noise_free
    scanned: npt.NDArray[np.int16] = np.rint(np.clip(noisy, -1024, 3071)).astype(np.int16)
    return scanned


def lesion_truth(label: npt.NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """Voxels, volumes and lesions (6-connected, per label value) of a mask, as JSON values."""
    values = [int(value) for value in np.unique(label) if value]
    lesions = []
    for value in values:
        parts, count = ndimage.label(label == value)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        lesions += [{"label": value, "voxels": int(size)} for size in sizes]
    return {
        "shape": list(grid.shape),
        "spacing_mm": [float(step) for step in grid.spacing],
        "voxel_mm3": grid.voxel_mm3,
        "voxels": int(np.count_nonzero(label)),
        "volume_mm3": float(np.count_nonzero(label) * grid.voxel_mm3),
        "volume_mm3_by_label": {
            str(value): float(np.count_nonzero(label == value) * grid.voxel_mm3) for value in values
        },
        "lesions": lesions,
        "lesion_count": len(lesions),
        "slices_with_lesion": np.flatnonzero(label.any(axis=(1, 2))).tolist(),
    }
