"""What all phantoms share: grids in mm, smooth random fields, soft shapes, noise, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.storage.images.geometry import Geometry

Array = npt.NDArray[np.floating[Any]]  # float32 throughout
Mask = npt.NDArray[np.uint8]
Point = Sequence[float] | npt.NDArray[np.floating[Any]]
Box = tuple[slice, slice, slice]
WHOLE = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class PhantomCase:
    """One case before it is written."""

    image: npt.NDArray[Any]  # (z, y, x), HU or arbitrary units
    label: Mask  # (z, y, x)
    geometry: Geometry
    truth: dict[str, Any] = field(default_factory=dict)  # JSON values beyond `lesion_truth`
    decoy: npt.NDArray[Any] | None = None  # a contrast scan that no adapter may read


@dataclass(frozen=True)
class Grid:
    """A voxel grid around the origin; `spacing` in mm, both z, y, x."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def height(self) -> float:
        """Size of the field of view along z in mm."""
        return self.shape[0] * self.spacing[0]

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing))

    def axes(self, box: Box = WHOLE) -> tuple[Array, Array, Array]:
        """Voxel centres in mm from the middle: (z, 1, 1), (1, y, 1), (1, 1, x)."""
        cuts = zip(self.shape, self.spacing, box, strict=True)
        lines = [((np.arange(n) - (n - 1) / 2) * mm).astype(np.float32)[cut] for n, mm, cut in cuts]
        z, y, x = np.ix_(*lines)
        return z, y, x

    def point(self, index: Sequence[float] | tuple[np.intp, ...]) -> npt.NDArray[np.float64]:
        """The position in mm from the middle of a voxel index (z, y, x)."""
        middle = (np.array(self.shape) - 1) / 2
        position: npt.NDArray[np.float64] = (np.array(index) - middle) * np.array(self.spacing)
        return position

    def box(self, low: Point, high: Point) -> Box:
        """The voxels between two corners in mm; empty outside the grid."""
        parts = []
        for n, step, start, stop in zip(self.shape, self.spacing, low, high, strict=True):
            first = max(0, int(np.floor(start / step + (n - 1) / 2)))
            last = min(n, int(np.ceil(stop / step + (n - 1) / 2)) + 1)
            parts.append(slice(first, max(first, last)))
        return parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class Scene:
    """A phantom while it is drawn: its random numbers, its grid, and its signal (z, y, x)."""

    rng: np.random.Generator
    grid: Grid
    tissue: Array

    def part(self, box: Box) -> Scene:
        """A view on some of the voxels; its axes begin in its own middle."""
        tissue = self.tissue[box]
        z, y, x = tissue.shape
        return Scene(self.rng, Grid((z, y, x), self.grid.spacing), tissue)

    def random_field(self, scale_mm: float) -> Array:
        """Cubic B-splines over random knots: zero mean, unit variance, the same on every grid."""
        weights = []
        for n, step in zip(self.grid.shape, self.grid.spacing, strict=True):
            knots = int(np.ceil(n * step / scale_mm)) + 4
            position = ((np.arange(n) + 0.5) * step / scale_mm)[:, None] + 1.5
            weights.append(_cubic(np.abs(position - np.arange(knots))).astype(np.float32))
        size = tuple(weight.shape[1] for weight in weights)
        knot_values = self.rng.standard_normal(size, dtype=np.float32) / np.float32(0.48**1.5)
        rows = np.matmul(weights[1], np.tensordot(weights[0], knot_values, (1, 0)))
        field: Array = np.matmul(rows, weights[2].T)
        return field

    def inside(self, depth_mm: Array) -> Array:
        """Share in [0, 1] of each voxel inside a surface, whose edge is as wide as a voxel."""
        return inside(depth_mm, float(np.cbrt(self.grid.voxel_mm3)))

    def draw(self, value: Array | float, depth_mm: Array) -> None:
        """Fill the inside of a surface with `value`."""
        blend(self.tissue, value, self.inside(depth_mm))

    def tube(self, start: Point, end: Point, radii_mm: tuple[float, float]) -> tuple[Box, Array]:
        """A tube with round ends (z, y, x) in mm: its box of voxels, and each voxel's share."""
        first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
        margin = max(radii_mm) + max(self.grid.spacing)
        box = self.grid.box(np.minimum(first, last) - margin, np.maximum(first, last) + margin)
        along = last - first
        length = float(along @ along) + 1e-6
        offsets = [axis - corner for axis, corner in zip(self.grid.axes(box), first, strict=True)]
        dot: Any = sum(offset * step for offset, step in zip(offsets, along, strict=True))
        t = np.clip(dot / np.float32(length), 0, 1)
        gaps = sum((offset - t * step) ** 2 for offset, step in zip(offsets, along, strict=True))
        radius_mm = radii_mm[0] + t * np.float32(radii_mm[1] - radii_mm[0])
        return box, self.inside((radius_mm - np.sqrt(gaps)).astype(np.float32))


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clip(0) ** 3 / 6
    return np.where(distance < 1, near, far)


def oblique(about_z: float, about_x: float) -> tuple[float, ...]:
    """Direction cosines (z, y, x) of a grid turned in, then tilted with, its slice plane (°)."""
    z, x = np.deg2rad([about_z, about_x])
    turn = np.array([[1, 0, 0], [0, np.cos(z), np.sin(z)], [0, -np.sin(z), np.cos(z)]])
    tilt = np.array([[np.cos(x), np.sin(x), 0], [-np.sin(x), np.cos(x), 0], [0, 0, 1]])
    return tuple(float(cosine) for cosine in (turn @ tilt).ravel())


def centred_geometry(grid: Grid, direction: tuple[float, ...]) -> Geometry:
    """The grid in the patient, turned about its middle, which lies at (0, 0, 0) mm."""
    to_first = (np.array(grid.shape) - 1) / 2 * np.array(grid.spacing)
    z, y, x = map(float, -np.array(direction).reshape(3, 3) @ to_first)
    return Geometry(grid.shape, grid.spacing, (z, y, x), direction)


def radius(z: Array, y: Array, x: Array, centre: Point, radii: Point) -> Array:
    """Relative distance from an ellipsoid's centre, 1 on its surface; centre and radii in mm."""
    squares = sum(
        ((axis - np.float32(middle)) / np.float32(size)) ** 2
        for axis, middle, size in zip((z, y, x), centre, radii, strict=True)
    )
    return np.sqrt(squares)


def inside(depth_mm: Array, width_mm: float) -> Array:
    """Share in [0, 1] of each voxel inside a surface whose edge is `width_mm` wide."""
    share: Array = np.clip(depth_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1)
    return share


def blend(image: Array, value: Array | float, share: Array) -> None:
    """Replace this share of every voxel by `value`, in place."""
    image += share * (np.asarray(value, np.float32) - image)


def largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest 6-connected part of a mask that is not empty."""
    parts, _ = ndimage.label(mask)
    largest: npt.NDArray[np.bool_] = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return largest


def blur(image: Array, grid: Grid, fwhm_mm: float) -> Array:
    """The image under a Gaussian point spread; axes with a width far below a voxel stay sharp."""
    for axis, step in enumerate(grid.spacing):
        sigma = fwhm_mm / 2.355 / step
        if sigma > 0.25:
            image = ndimage.gaussian_filter1d(image, sigma, axis=axis, truncate=3)
    return image


def ct_scan(rng: np.random.Generator, noise_free: Array, sigma: float) -> npt.NDArray[np.int16]:
    """The stored image (z, y, x) in HU: noise of deviation `sigma`, correlated in the plane."""
    noise = rng.standard_normal(noise_free.shape, dtype=np.float32)
    # averages of 2 × 2 pixels halve the deviation
    noisy = ndimage.uniform_filter1d(ndimage.uniform_filter1d(noise, 2, axis=2), 2, axis=1)
    noisy *= np.float32(2 * sigma)
    noisy += noise_free
    return np.rint(np.clip(noisy, -1024, 3071)).astype(np.int16)


def lesion_truth(label: Mask, geometry: Geometry) -> dict[str, Any]:
    """Grid, voxels, volumes and lesions (6-connected, per label value) of a mask, as JSON."""
    voxel_mm3 = float(np.prod(geometry.spacing))
    voxels = {int(value): int(np.sum(label == value)) for value in np.unique(label[label > 0])}
    lesions = [
        {"label": value, "voxels": int(size)}
        for value in voxels
        for size in np.bincount(ndimage.label(label == value)[0].ravel())[1:]
    ]
    return {
        "shape": list(geometry.shape),
        "spacing_mm": [float(step) for step in geometry.spacing],
        "direction": list(geometry.direction),
        "voxel_mm3": voxel_mm3,
        "voxels": sum(voxels.values()),
        "volume_mm3": sum(voxels.values()) * voxel_mm3,
        "volume_mm3_by_label": {str(value): n * voxel_mm3 for value, n in voxels.items()},
        "lesions": lesions,
        "lesion_count": len(lesions),
        "slices_with_lesion": np.flatnonzero(label.any(axis=(1, 2))).tolist(),
    }
