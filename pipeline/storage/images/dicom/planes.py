"""Slices and frames of DICOM as planes in the patient, and the one grid that they lie on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault
from pipeline.storage.images.geometry import Geometry

DIRECTION_TOLERANCE = 1e-4  # of each direction cosine, and of a right angle
SPACING_TOLERANCE = 1e-4  # of the spacing in the plane
STEP_TOLERANCE = 0.01  # of the distance between slices
ROUNDED_AT_MOST = 0.2  # of that distance: a missing slice moves the others by a third or more
UNROUNDED = 1e-3  # mm off an even step: less is none
FINEST, COARSEST = 9, 1  # decimals: whole numbers may be exact, and are not taken for rounded
GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
ONE_STACK = "one stack of parallel slices"

Vectors = npt.NDArray[np.float64]  # (n, 3) x, y, z in mm


@dataclass(frozen=True)
class Plane:
    """One slice, or one frame of a file of several; vectors are x, y, z, LPS."""

    file: Path
    frame: int  # within its file, from 0
    shape: tuple[int, int]  # voxels (y, x)
    position: tuple[float, ...]  # of the first voxel, mm; () where the file does not tell
    decimals: tuple[int, ...]  # that each number of its position needs
    orientation: tuple[float, ...]  # direction cosines of a row, then of a column; or ()
    spacing: tuple[float, ...]  # mm (y, x); or ()
    rescale: tuple[float, float] | None  # slope and intercept, NaN where one of them lacks; or None
    reference: str  # UID of the frame of reference
    bits: tuple[int, int, bool]  # allocated and stored (0: floats) for a value, with a sign

    @property
    def placed(self) -> bool:
        """Whether it says where it lies."""
        return len(self.position) == 3 and len(self.orientation) == 6


def planes_of(file: Path, header: Any) -> list[Plane]:
    """The planes of one DICOM file, in stored order.

    Raises:
        PipelineError: the number of frames and their descriptions differ.
        ValueError: numbers that are none.
    """
    count = int(header.get("NumberOfFrames") or 1)
    frames, shared = (list(header.get(name) or ()) for name in GROUPS)
    if frames and len(frames) != count:
        fault = f"{count} frames, and where {len(frames)} lie"
        raise file_fault(file, fault, "as many", "export it again")
    grouped = bool(frames or shared)
    if not grouped and count > 1:  # one position for all frames would be none
        return [_plane(file, 0, header, [{}])]
    return [
        _plane(file, index, header, [*frames[index : index + 1], *shared, header])
        for index in range(count)
    ]


def _plane(file: Path, index: int, header: Any, sources: Sequence[Any]) -> Plane:
    def found(sequence: str, name: str) -> Any:
        for source in sources:
            item = source if source is header else next(iter(source.get(sequence) or ()), {})
            if item.get(name) is not None:
                return item.get(name)
        return None

    def numbers(sequence: str, name: str) -> tuple[float, ...]:
        value = found(sequence, name)
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return tuple(map(float, value)) if several else ()

    position = found("PlanePositionSequence", "ImagePositionPatient") or ()
    rescale = [
        found("PixelValueTransformationSequence", name)
        for name in ("RescaleSlope", "RescaleIntercept")
    ]
    given = rescale != [None, None]
    slope, intercept = (math.nan if number is None else float(number) for number in rescale)
    return Plane(
        file=file,
        frame=index,
        shape=(int(header.Rows), int(header.Columns)),
        position=tuple(map(float, position)),
        decimals=tuple(map(_decimals, position)),
        orientation=numbers("PlaneOrientationSequence", "ImageOrientationPatient"),
        spacing=numbers("PixelMeasuresSequence", "PixelSpacing"),
        rescale=(slope, intercept) if given else None,
        reference=str(header.get("FrameOfReferenceUID") or ""),
        bits=(
            int(header.get("BitsAllocated") or 0),
            int(header.get("BitsStored") or 0),
            bool(header.get("PixelRepresentation")),
        ),
    )


def _decimals(number: Any) -> int:
    """Decimals that a number needs, however many it is written with."""
    text = getattr(number, "original_string", None) or repr(float(number))
    exponent = Decimal(text.strip()).normalize().as_tuple().exponent
    return min(max(COARSEST, -exponent), FINEST) if isinstance(exponent, int) else FINEST


def _rounding(planes: Sequence[Plane], positions: Vectors) -> float:
    """The step in mm to which positions are rounded, along the coarsest axis that they differ on.

    Many write the one number that differs with fewer decimals than the other two.
    """
    decimals = np.max([plane.decimals for plane in planes], axis=0)
    return float(0.1 ** decimals[np.ptp(positions, axis=0) > 0].min(initial=FINEST))


def parallel(planes: Sequence[Plane]) -> bool:
    """Whether placed planes have one direction; a survey's have several."""
    directions = np.array([plane.orientation for plane in planes])
    return bool(np.ptp(directions, axis=0).max() <= DIRECTION_TOLERANCE)


def stack(source: Path, planes: Sequence[Plane]) -> tuple[Geometry, list[Plane]]:
    """The grid of parallel, evenly spaced planes, and the planes along their normal.

    Where they do not lie behind one another (tilted gantry), the grid's z axis leans as they do.

    Raises:
        PipelineError: they are not one such stack; in words that fit.
    """
    _check_alike(source, planes)
    row, column, normal = _axes(source, planes)
    heights = np.array([plane.position for plane in planes]) @ normal
    ordered = [planes[index] for index in np.argsort(heights, kind="stable")]
    positions = np.array([plane.position for plane in ordered])
    _check_single(source, np.diff(np.sort(heights)))
    step = _step(positions)
    distance = float(step @ normal)
    rounding = min(_rounding(planes, positions), ROUNDED_AT_MOST * distance)
    _check_even(source, positions, normal, max(rounding, STEP_TOLERANCE * distance))
    aside = positions - positions[0]
    aside -= np.outer(aside @ normal, normal)
    length = distance * (len(planes) - 1)
    if np.abs(aside).max() <= max(rounding, DIRECTION_TOLERANCE * length):
        step = normal * distance  # only rounding leads aside
    z_spacing = float(np.linalg.norm(step))
    in_plane = planes[0].spacing
    direction = np.array([step / z_spacing, column, row]).T[::-1]  # rows z, y, x of the patient
    geometry = Geometry(
        (len(planes), *planes[0].shape),
        (z_spacing, in_plane[0], in_plane[1]),
        tuple(positions[0][::-1].tolist()),
        tuple(direction.ravel().tolist()),
    )
    return geometry, ordered


def _check_alike(source: Path, planes: Sequence[Plane]) -> None:
    def refuse(
        found: str, remedy: str = "export one stack as a series of its own"
    ) -> PipelineError:
        return file_fault(source, found, ONE_STACK, remedy)

    if missing := sum(not plane.placed for plane in planes):
        raise refuse(f"{missing} of {len(planes)} slices do not say where they lie")
    values = [(*plane.position, *plane.orientation, *plane.spacing) for plane in planes]
    if not all(np.isfinite(value).all() for value in map(np.array, values)):
        raise refuse("positions that are no numbers", "export it again")
    if missing := sum(len(plane.spacing) != 2 for plane in planes):
        fault = f"{missing} of {len(planes)} slices have no PixelSpacing"
        raise file_fault(source, fault, "the size of a voxel in mm", "export it again")
    if len(sizes := {plane.shape for plane in planes}) > 1:
        raise refuse(f"slices of the sizes {' and '.join(map(str, sorted(sizes)[:3]))} (y, x)")
    spacings = np.array([plane.spacing for plane in planes])
    if np.any(np.ptp(spacings, axis=0) > SPACING_TOLERANCE * np.abs(spacings).max()):
        low, high = spacings.min(), spacings.max()
        raise refuse(f"PixelSpacing that differs between slices, {low:g} to {high:g} mm")
    if not parallel(planes):
        raise refuse("slices that are not parallel")
    if len({plane.reference for plane in planes}) > 1:
        raise refuse("slices of several frames of reference")


def _axes(source: Path, planes: Sequence[Plane]) -> Vectors:
    """Unit vectors along a row, along a column and along their normal."""
    row, column = np.mean([plane.orientation for plane in planes], axis=0).reshape(2, 3)
    lengths = np.linalg.norm([row, column], axis=1)
    if np.any(np.abs(lengths - 1) > 1e-3) or abs(row @ column) > 10 * DIRECTION_TOLERANCE:
        cosines = ", ".join(f"{value:g}" for value in (*row, *column))
        fault = f"ImageOrientationPatient ({cosines})"
        raise file_fault(source, fault, "two unit vectors at a right angle", "export it again")
    row, column = row / lengths[0], column / lengths[1]
    return np.array([row, column, np.cross(row, column)])


def _check_single(source: Path, gaps: npt.NDArray[np.float64]) -> None:
    """Refuse several planes at one position; `gaps` are the sorted planes' distances in mm."""
    apart = gaps[gaps > 1e-4]
    same = gaps <= (STEP_TOLERANCE * np.median(apart) if apart.size else np.inf)
    if not same.any():
        return
    groups = Counter(np.concatenate([[0], np.cumsum(~same)]).tolist()).values()
    if len(set(groups)) == 1:
        found = f"{max(groups)} images at each of {len(groups)} positions"
        found += ": several time points, phases, echoes or stacks"
        raise file_fault(source, found, ONE_STACK, "export one of them as a series of its own")
    found = f"several images at {sum(size > 1 for size in groups)} of {len(groups)} positions"
    raise file_fault(source, found, ONE_STACK, "remove the doubled slices")


def _step(positions: Vectors) -> npt.NDArray[np.float64]:
    """The even step from plane to plane, in mm; of rounded positions all have a say in it."""
    ends: npt.NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + np.arange(len(positions))[:, None] * ends
    if np.abs(positions - even).max() < UNROUNDED:
        return ends
    fitted: npt.NDArray[np.float64] = np.polyfit(np.arange(len(positions)), positions, 1)[0]
    return fitted


def _check_even(source: Path, positions: Vectors, normal: Any, tolerance: float) -> None:
    """Refuse planes away from where even steps from the first to the last put them."""
    even = np.linspace(positions[0], positions[-1], len(positions))
    off = np.abs(positions - even).max()
    if off <= tolerance:
        return
    gaps = np.diff(positions @ normal)
    if np.abs((positions - even) @ normal).max() <= tolerance:
        found = f"slices shifted within their plane, by up to {off:.4g} mm"
        raise file_fault(source, found, ONE_STACK, "export it again")
    found = f"distances between slices from {gaps.min():.4g} to {gaps.max():.4g} mm"
    if gaps.max() > 1.5 * np.median(gaps):
        found += ", a gap: slices are missing, or there is more than one stack"
    raise file_fault(source, found, "all equal", "export one whole stack again")
