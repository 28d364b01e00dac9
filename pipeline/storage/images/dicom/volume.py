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
from pipeline.storage.images.dicom.planes import Plane, stack
from pipeline.storage.images.dicom.series import FETCH_AGAIN, image_series, named_damage, pydicom
from pipeline.storage.images.geometry import Geometry

Array = npt.NDArray[Any]
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
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
            for frame, values in enumerate(stored_frames(file, dataset)):
                if array is None:  # not before there are as many values as the header says
                    array = np.empty(geometry.shape, _dtype(planes, rescale))
                if values.dtype.kind == "f" and array.dtype.kind != "f":
                    raise file_fault(file, "floats", "whole numbers by its header", FETCH_AGAIN)
                index = index_of[frame]
                array[index] = _rescaled(values, *rescale[index])
    assert array is not None
    return array, geometry, notes


def stored_frames(file: Path, dataset: Any) -> Iterator[Array]:
    """The stored values (y, x) of each frame, without what lies in bits above theirs.

    Raises:
        PipelineError: the file ends early, no decoder reads it, or its values need a lookup.
    """
    _check_values(file, dataset)
    _check_encoding(file, dataset)
    pixels = importlib.import_module("pydicom.pixels")
    count, promised = 0, int(dataset.get("NumberOfFrames") or 1)
    # its own correction of signs in JPEG-LS fails
    for frame in pixels.iter_pixels(dataset, raw=True, apply_jls_sign_correction=False):
        count += 1
        yield _own_bits(frame, dataset)
    if count != promised:
        raise file_fault(file, f"{count} frames", f"{promised}", FETCH_AGAIN)


def _own_bits(values: Array, dataset: Any) -> Array:
    """Values without an overlay or the like in the bits above them, which become their sign."""
    unused = 0 if values.dtype.kind == "f" else 8 * values.itemsize - int(dataset.BitsStored)
    return (values << unused) >> unused if unused else values


def _check_values(file: Path, dataset: Any) -> None:
    """Refuse stored values that slope and intercept do not turn into the image's."""
    if str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1":
        remedy = "export it as MONOCHROME2"
        raise file_fault(file, "MONOCHROME1, where low values are bright", "MONOCHROME2", remedy)
    if dataset.get("ModalityLUTSequence"):
        remedy = "export it with rescale slope and intercept"
        raise file_fault(file, "values behind a lookup table", "a rescale slope", remedy)
    stored, highest = dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is not None and highest is not None and highest != stored - 1:
        fault = f"{stored} bits stored, the highest as bit {highest}"
        raise file_fault(file, fault, f"bit {stored - 1}", "export it again")


def _check_encoding(file: Path, dataset: Any) -> None:
    """Refuse pixel data that nothing decodes, or that are not as long as the header says."""
    pixels = next((dataset[name] for name in PIXELS if name in dataset), None)
    if pixels is None:
        raise file_fault(file, "no pixel data", "a whole DICOM file", FETCH_AGAIN)
    meta, uid = dataset.file_meta, importlib.import_module("pydicom.uid")
    if "TransferSyntaxUID" not in meta:  # a data set without preamble is not compressed
        implicit, little = dataset.original_encoding
        plain = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        meta.TransferSyntaxUID = plain if little else uid.ExplicitVRBigEndian
    syntax = meta.TransferSyntaxUID
    if syntax in uid.AllTransferSyntaxes and not syntax.is_encapsulated:
        utilities = importlib.import_module("pydicom.pixels.utils")
        found, promised = len(pixels.value), utilities.get_expected_length(dataset)
        # some writers fill up the last bytes
        if not promised <= found < promised + int(dataset.Columns):
            fault = f"{found} bytes of pixel data"
            raise file_fault(file, fault, f"{promised} by its header", FETCH_AGAIN)
        return
    try:
        usable = importlib.import_module("pydicom.pixels").get_decoder(syntax).is_available
    except NotImplementedError:
        usable = False
    if not usable:
        fault = f"transfer syntax {syntax.name}, which nothing here decodes"
        raise file_fault(file, fault, "", "export it without compression")


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


def _dtype(planes: Sequence[Plane], rescale: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """The smallest whole type for all values that may be, or a float of enough digits."""
    encodings = {plane.bits for plane in planes}
    if any(stored == 0 for _, stored, _ in encodings):
        single = all(allocated <= 32 for allocated, _, _ in encodings)
        return np.dtype(np.float32 if single else np.float64)
    if not all(slope.is_integer() and intercept.is_integer() for slope, intercept in rescale):
        single = all(stored <= 16 for _, stored, _ in encodings)
        return np.dtype(np.float32 if single else np.float64)
    ends: list[int] = []
    for _, stored, signed in encodings:
        ends += (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
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
