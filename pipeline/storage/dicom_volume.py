"""A DICOM series, of single slices or of frames in one file, as one array on its grid."""

from __future__ import annotations

import importlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import Finding, file_fault
from pipeline.storage.dicom_planes import Plane, stack
from pipeline.storage.dicom_series import FETCH_AGAIN, image_series, named_damage, pydicom
from pipeline.storage.geometry import Geometry

Array = npt.NDArray[Any]
WHOLE = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


def dicom_geometry(path: Path, series: str | None = None) -> Geometry:
    """The grid of the image series of a DICOM file or folder, from its headers alone.

    Raises:
        PipelineError: see `dicom_volume`.
    """
    return stack(path, image_series(path, series)[0].planes)[0]


def dicom_volume(path: Path, series: str | None = None) -> tuple[Array, Geometry, list[Finding]]:
    """Values (z, y, x) with each slice's rescale applied, grid, and notes on what was left out.

    z ascends along the normal of the slices. The type holds all values: whole numbers stay whole.

    Raises:
        PipelineError: the series is not one stack, a file is damaged, or nothing decodes it.
    """
    chosen, notes = image_series(path, series)
    geometry, planes = stack(path, chosen.planes)
    rescale = _rescale(path, planes)
    of_file: dict[Path, dict[int, int]] = defaultdict(dict)
    for index, plane in enumerate(planes):
        of_file[plane.file][plane.frame] = index
    array: Array | None = None
    for file, index_of in of_file.items():
        with named_damage(file):
            dataset = pydicom().dcmread(file, force=True)
            if array is None:
                array = np.empty(geometry.shape, _dtype(dataset, rescale))
                first = _encoding(dataset)
            if _encoding(dataset) != first:
                fault = f"values stored as {_encoding(dataset)}, and others as {first}"
                raise file_fault(file, fault, "one kind", "export the series again")
            for frame, values in enumerate(stored_frames(file, dataset)):
                index = index_of[frame]
                array[index] = _rescaled(values, *rescale[index])
    assert array is not None
    return array, geometry, notes


def stored_frames(file: Path, dataset: Any) -> Iterator[Array]:
    """The stored values (y, x) of each frame, without what lies in bits above or below them.

    Raises:
        PipelineError: the file ends early, or no decoder reads its transfer syntax.
    """
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise file_fault(file, "truncated, found no pixel data", "a whole file", FETCH_AGAIN)
    if str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1":
        remedy = "export it as MONOCHROME2"
        raise file_fault(file, "MONOCHROME1, where low values are bright", "MONOCHROME2", remedy)
    if dataset.get("ModalityLUTSequence"):
        remedy = "export it with rescale slope and intercept"
        raise file_fault(file, "values behind a lookup table", "a rescale slope", remedy)
    syntax = dataset.file_meta.TransferSyntaxUID
    decoders = importlib.import_module("pydicom.pixels.decoders")
    pixels = importlib.import_module("pydicom.pixels")
    if syntax.is_encapsulated:
        try:
            usable = decoders.base.get_decoder(syntax).is_available
        except NotImplementedError:
            usable = False
        if not usable:
            fault = f"transfer syntax {syntax.name}, which nothing here decodes"
            raise file_fault(file, fault, "", "export it without compression")
    count, promised = 0, int(dataset.get("NumberOfFrames") or 1)
    for frame in pixels.iter_pixels(dataset, raw=True):
        count += 1
        yield _own_bits(frame, dataset)
    if count != promised:
        raise file_fault(file, f"truncated, found {count} frames", f"{promised}", FETCH_AGAIN)


def _own_bits(values: Array, dataset: Any) -> Array:
    """Values without the bits of an overlay or the like beside them; signs go along."""
    if values.dtype.kind not in "iu":
        return values
    allocated, stored = 8 * values.dtype.itemsize, int(dataset.BitsStored)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    below = 0 if compressed else int(dataset.get("HighBit", stored - 1)) + 1 - stored
    above = allocated - stored - below
    if (above, below) == (0, 0):
        return values
    return (values << above) >> (above + below)


def _encoding(dataset: Any) -> tuple[int, int, bool]:
    """What decides the type of the stored values."""
    bits = int(dataset.BitsAllocated)
    return bits, int(dataset.get("BitsStored") or bits), bool(dataset.get("PixelRepresentation"))


def _rescale(path: Path, planes: Sequence[Plane]) -> list[tuple[float, float]]:
    """Slope and intercept of every plane."""
    without = sum(plane.rescale is None for plane in planes)
    if 0 < without < len(planes):
        fault = f"{without} of {len(planes)} slices have no rescale slope and intercept"
        raise file_fault(path, fault, "all or none", "export the series again")
    pairs = [plane.rescale or (1.0, 0.0) for plane in planes]
    for slope, intercept in pairs:
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
            fault = f"rescale slope {slope:g} and intercept {intercept:g}"
            raise file_fault(path, fault, "numbers, and no slope 0", "export it again")
    return pairs


def _dtype(dataset: Any, rescale: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """The smallest whole type for all values that may be, or a float of enough digits."""
    bits, stored, signed = _encoding(dataset)
    if "PixelData" not in dataset:
        return np.dtype(np.float32 if bits == 32 else np.float64)
    if not all(slope.is_integer() and intercept.is_integer() for slope, intercept in rescale):
        return np.dtype(np.float32 if stored <= 16 else np.float64)
    ends = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    values = [end * slope + intercept for end in ends for slope, intercept in rescale]
    for kind in WHOLE:
        limits = np.iinfo(kind)
        if limits.min <= min(values) and max(values) <= limits.max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def _rescaled(values: Array, slope: float, intercept: float) -> Array:
    if (slope, intercept) == (1, 0):
        return values
    rescaled: Array = values * np.float64(slope) + intercept
    return rescaled
