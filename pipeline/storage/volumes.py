"""Reading and writing medical images: the only user of SimpleITK.

Everything here is in `(z, y, x)` order; ITK's `(x, y, z)` never leaves this module.
"""

from __future__ import annotations

import importlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault, one_line
from pipeline.storage.image_headers import (
    FETCH_AGAIN,
    check_complete,
    restore_not_finite,
    stored_spacing,
)

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
UNEVEN_GAP = 0.01  # of the median distance between DICOM slices
DAMAGED = "truncated or damaged"
DICOM_MARK_AT = 128  # bytes


@dataclass(frozen=True)
class Geometry:
    """Where an image's grid lies in the patient.

    Attributes:
        shape: voxels in z, y, x.
        spacing: mm between voxels in z, y, x.
        origin: mm, position of the first voxel: ITK's (LPS) position read z, y, x.
        direction: 3×3, row-major; ITK's direction cosines with both axes reversed to z, y, x.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY


@dataclass(frozen=True)
class Volume:
    """An image on its grid; `array` is (z, y, x) in the file's own dtype and units."""

    array: npt.NDArray[Any]
    geometry: Geometry


def read_geometry(path: Path, channel: int | None = None) -> Geometry:
    """The grid of a 3D image, from its header alone; see `read_volume`.

    Raises:
        PipelineError: missing or unreadable, or not one 3D image.
    """
    _check_exists(path)
    geometry = _series_geometry(path) if path.is_dir() else _geometry(_header(path), path, channel)
    _check_spacing(path, geometry)
    return geometry


def read_volume(path: Path, channel: int | None = None) -> Volume:
    """Read a 3D image whole, keeping its dtype.

    Args:
        path: a file, or a folder of DICOM slices.
        channel: which volume of a 4D image, or which value per voxel of a multi-channel one,
            from 0; None refuses both.

    Raises:
        PipelineError: missing, truncated or unreadable, or not one 3D image.
    """
    itk = _itk()
    _check_exists(path)
    if path.is_dir():
        geometry = _series_geometry(path)
        reader: Any = itk.ImageSeriesReader()
        reader.SetFileNames(_series_files(path))
    else:
        check_complete(path)
        header = _header(path)
        geometry = _geometry(header, path, channel)
        _check_whole(path, geometry)
        reader = itk.ImageFileReader()
        reader.SetFileName(str(path))
        if header.GetDimension() == 4:
            reader.SetExtractIndex([0, 0, 0, channel or 0])
            reader.SetExtractSize([*header.GetSize()[:3], 0])
    _check_spacing(path, geometry)
    with _told(path):
        array = itk.GetArrayFromImage(reader.Execute())
    if array.ndim == 4:  # (z, y, x, channel)
        array = np.ascontiguousarray(array[..., channel or 0])
    if path.is_file():
        restore_not_finite(path, array, channel or 0)
    return Volume(array, geometry)


def _check_whole(path: Path, geometry: Geometry) -> None:
    """Refuse one slice of a DICOM series, which would pass for a scan."""
    with path.open("rb") as file:
        file.seek(DICOM_MARK_AT)
        dicom = file.read(4) == b"DICM"
    if dicom and geometry.shape[0] == 1:
        raise file_fault(path, "one slice of a DICOM series", "a scan", "give the series' folder")


def write_volume(
    path: Path, array: npt.NDArray[Any], geometry: Geometry, *, compress: bool = True
) -> None:
    """Write a 3D image so that a reader sees it whole or not at all.

    Args:
        path: its suffix chooses the format: .nii.gz, .nii, .mha, .mhd (+ .raw or .zraw), .nrrd.
        array: (z, y, x); bool is written as uint8, other dtypes as they are.
        geometry: the grid; its shape must be the array's.
        compress: for formats that leave the choice (all but .nii and .nii.gz).

    Raises:
        PipelineError: unknown suffix, shapes differ, or the folder cannot be written.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise PipelineError(f"{path}: unknown image suffix; use one of {', '.join(SUFFIXES)}")
    if array.shape != geometry.shape:
        raise PipelineError(f"{path}: array has shape {array.shape}, its grid {geometry.shape}")
    itk = _itk()
    image = itk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(geometry.direction[::-1])
    # A folder of its own lets a .mhd name its data file by the final name already.
    folder = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True)
        with _told(path, "not written", "look at the folder's rights and space"):
            itk.WriteImage(image, str(folder / path.name), useCompression=compress)
        for written in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(path.parent / written.name)
    except OSError as error:
        raise PipelineError(f"{path}: not written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _itk() -> Any:
    itk: Any = importlib.import_module("SimpleITK")
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    return itk


@contextmanager
def _told(path: Path, fault: str = DAMAGED, remedy: str = FETCH_AGAIN) -> Iterator[None]:
    """Turn ITK's many-line exceptions into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = one_line(str(error).split("ERROR:")[-1])
        raise file_fault(path, f"{fault} (ITK: {reason})", "", remedy) from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise file_fault(
            path, "not there", "an image file or a DICOM folder", "correct the path or fetch it"
        )


def _header(path: Path) -> Any:
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    with _told(path, "not a readable image"):
        reader.ReadImageInformation()
    return reader


def _geometry(reader: Any, path: Path, channel: int | None = None) -> Geometry:
    _check_channel(reader, path, channel)
    x, y, z = (int(length) for length in reader.GetSize()[:3])
    spacing_x, spacing_y, spacing_z = reader.GetSpacing()[:3]
    origin_x, origin_y, origin_z = reader.GetOrigin()[:3]
    axes = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
    return Geometry(
        (z, y, x),
        (spacing_z, spacing_y, spacing_x),
        (origin_z, origin_y, origin_x),
        tuple(float(cosine) for cosine in axes[::-1, ::-1].flat),
    )


def _check_channel(reader: Any, path: Path, channel: int | None) -> None:
    """Refuse what is not one 3D image, or not one without a choice among several."""
    dimension, values = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimension == 4 and values == 1:
        count, found = reader.GetSize()[3], f"a 4D image of {reader.GetSize()[3]} volumes"
    elif dimension == 3:
        count, found = values, f"{values} values per voxel"
    else:
        raise file_fault(path, f"a {dimension}D image", "3D", "split or stack it")
    if channel is None and count > 1:
        remedy = f"split it, or for images set source.channel to one of 0 … {count - 1}"
        raise file_fault(path, found, "one 3D image", remedy)
    if channel is not None and channel >= count:
        raise file_fault(
            path, f"{found}, but source.channel is {channel}", f"0 … {count - 1}", "correct it"
        )


def _check_spacing(path: Path, geometry: Geometry) -> None:
    """Refuse a spacing that no image can have; ITK lets it pass, or reads 1 mm in its place."""
    given = (None if path.is_dir() else stored_spacing(path)) or geometry.spacing[::-1]
    if not all(np.isfinite(step) and step > 0 for step in given):
        listed = ", ".join(f"{step:g}" for step in given[::-1])
        raise file_fault(
            path, f"spacing ({listed}) mm (z, y, x)", "all above 0", "correct the header"
        )


def _series_files(folder: Path) -> tuple[str, ...]:
    reader = _itk().ImageSeriesReader
    with _told(folder, "not a readable DICOM folder"):
        series = reader.GetGDCMSeriesIDs(str(folder))
        if len(series) != 1:
            raise file_fault(folder, f"{len(series)} DICOM series", "1", "one folder per series")
        files: tuple[str, ...] = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    return files


def _series_geometry(folder: Path) -> Geometry:
    """The stack's grid: in-plane from the first slice, z from the slices' positions."""
    files = _series_files(folder)
    slices = [_geometry(_header(Path(file)), Path(file)) for file in files]
    first = slices[0]
    if any(one.shape != first.shape or one.direction != first.direction for one in slices):
        raise file_fault(
            folder, "its slices differ in size or direction", "one stack", "keep one stack"
        )
    if len(slices) == 1:
        return first
    positions = np.array([one.origin for one in slices])
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if np.ptp(gaps) > UNEVEN_GAP * np.median(gaps):
        raise file_fault(
            folder,
            f"distance between slices from {gaps.min():g} to {gaps.max():g} mm",
            "all equal",
            "a slice is missing or doubled: export the series again",
        )
    shape = (len(slices), *first.shape[1:])
    return Geometry(shape, (float(gaps.mean()), *first.spacing[1:]), first.origin, first.direction)
