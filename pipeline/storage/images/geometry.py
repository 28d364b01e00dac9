"""The grid of an image and its place in the patient, and the check that every grid passes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
UNIT_TOLERANCE = 1e-3  # of a direction's length
RIGHT_ANGLE = 1e-4  # cosine between two axes that still count as perpendicular
# cosines, which NIfTI keeps in single precision, span a volume that is far from 0 or is none
FLAT = 1e-3
LARGEST_TILT = 45  # degrees; gantries tilt by up to 30
RESAMPLE = "resample the image to a right-angled grid"


@dataclass(frozen=True)
class Geometry:
    """The grid of an image, and its place in the patient; all axes in z, y, x order."""

    shape: tuple[int, int, int]  # voxels
    spacing: tuple[float, float, float]  # mm between voxels
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # the first voxel's ITK (LPS) position, mm
    # 3×3, row-major: ITK's direction cosines. The columns are the unit steps along z, y and x;
    # between slices of a tilted gantry, that along z is not perpendicular to the others
    direction: tuple[float, ...] = IDENTITY

    @property
    def axes(self) -> npt.NDArray[np.float64]:
        """The direction as a 3×3 matrix (patient axis, stored axis)."""
        return np.array(self.direction, float).reshape(3, 3)


def cosines(geometry: Geometry) -> tuple[float, float, float]:
    """How far axes are from perpendicular: |cosine| between z and y, z and x, y and x."""
    z, y, x = geometry.axes.T
    return float(abs(z @ y)), float(abs(z @ x)), float(abs(y @ x))


def is_right_angled(geometry: Geometry) -> bool:
    """Whether all three axes are perpendicular."""
    return max(cosines(geometry)) <= RIGHT_ANGLE


def is_tilted(geometry: Geometry) -> bool:
    """Whether right-angled slices follow one another aslant, as with a tilted gantry."""
    *aslant, in_plane = cosines(geometry)
    return in_plane <= RIGHT_ANGLE < max(aslant)


def tilt_degrees(geometry: Geometry) -> float:
    """The angle between the step from slice to slice and the slices' normal."""
    z, y, x = geometry.axes.T
    return float(np.degrees(np.arctan2(np.hypot(z @ y, z @ x), abs(z @ np.cross(y, x)))))


def check_grid(
    path: Path,
    geometry: Geometry,
    array: npt.NDArray[Any] | None = None,
    *,
    tilted: bool = False,
) -> None:
    """Refuse a grid that no image can have; every reader's grid passes here.

    `array` is (z, y, x), if it is read already. `tilted` lets slices pass that are right-angled and
    follow one another aslant. A left-handed grid (determinant -1) is as good as any.

    Raises:
        PipelineError: another shape than the array's, a spacing that is not finite and above 0, a
            position or direction that is not finite, axes that are not of length 1 or not
            perpendicular.
    """
    if array is not None and array.shape != geometry.shape:
        expected = f"the {geometry.shape} of its header"
        raise file_fault(path, f"voxels {array.shape} (z, y, x)", expected, "export it again")
    if not all(np.isfinite(step) and step > 0 for step in geometry.spacing):
        fault = f"spacing ({_listed(geometry.spacing)}) mm (z, y, x)"
        raise file_fault(path, fault, "all above 0", "correct the header")
    for name, values in (("origin", geometry.origin), ("direction", geometry.direction)):
        if not np.isfinite(values).all():
            fault = f"{name} ({_listed(values)}) (z, y, x)"
            raise file_fault(path, fault, "numbers", "correct the header")
    lengths = np.linalg.norm(geometry.axes, axis=0)
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
        fault = f"directions of the lengths ({_listed(lengths)}) (z, y, x)"
        raise file_fault(path, fault, "all 1", "correct the header")
    if aslant := _angle_fault(path, geometry, tilted=tilted):
        raise aslant


def _angle_fault(path: Path, geometry: Geometry, *, tilted: bool) -> PipelineError | None:
    """The fault of axes that are not perpendicular, or span no volume."""
    if abs(np.linalg.det(geometry.axes)) < FLAT:
        found = "directions that lie in one plane"
        return file_fault(path, found, "three axes at right angles", "correct the header")
    if is_tilted(geometry) and (tilt := tilt_degrees(geometry)) <= LARGEST_TILT:
        if tilted:
            return None
        found = f"tilted slices: the step between them leans {tilt:.3g}° from their normal, as "
        found += "with a tilted gantry or a sheared grid"
        remedy = f"set source.tilted: resample, or {RESAMPLE}"
        return file_fault(path, found, "axes at right angles", remedy)
    if is_right_angled(geometry):
        return None
    angles = (f"{np.degrees(np.arccos(min(cosine, 1))):.3g}°" for cosine in cosines(geometry))
    found = f"a sheared grid: angles of {', '.join(angles)} between z and y, z and x, y and x"
    return file_fault(path, found, "right angles", RESAMPLE)


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)
