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

from pipeline.errors import PipelineError
from pipeline.raw_files import check_complete, restore_not_finite

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
UNEVEN_GAP = 0.01  # of the median distance between DICOM slices
DAMAGED = "truncated or damaged; fetch or export it again"


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


def read_geometry(path: Path) -> Geometry:
    """The grid of a 3D image, from its header alone; `path` may be a folder of DICOM slices.

    Raises:
        PipelineError: missing or unreadable, or not 3D with one value per voxel.
    """
    _check_exists(path)
    return _series_geometry(path) if path.is_dir() else _geometry(_header(path), path)


def read_volume(path: Path) -> Volume:
    """Read a 3D image whole, keeping its dtype; `path` may be a folder of DICOM slices.

    Raises:
        PipelineError: missing, truncated or unreadable, or not 3D with one value per voxel.
    """
    itk = _itk()
    _check_exists(path)
    if path.is_dir():
        geometry = _series_geometry(path)
        reader: Any = itk.ImageSeriesReader()
        reader.SetFileNames(_series_files(path))
    else:
        check_complete(path)
        geometry = _geometry(_header(path), path)
        reader = itk.ImageFileReader()
        reader.SetFileName(str(path))
    with _told(path):
        array = itk.GetArrayFromImage(reader.Execute())
    if path.is_file():
        restore_not_finite(path, array)
    return Volume(array, geometry)


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
        with _told(path, "not written"):
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
def _told(path: Path, fault: str = DAMAGED) -> Iterator[None]:
    """Turn ITK's many-line exceptions into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split("ERROR:")[-1].split())[:200]
        raise PipelineError(f"{path}: {fault} (ITK: {reason})") from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise PipelineError(f"{path}: not there; expected an image file or a DICOM folder")


def _header(path: Path) -> Any:
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    with _told(path, "not a readable image"):
        reader.ReadImageInformation()
    return reader


def _geometry(reader: Any, path: Path) -> Geometry:
    dimension, channels = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimension != 3:
        raise PipelineError(f"{path}: found a {dimension}D image, expected 3D; split or stack it")
    if channels != 1:
        raise PipelineError(f"{path}: found {channels} values per voxel, expected 1")
    x, y, z = (int(length) for length in reader.GetSize())
    spacing_x, spacing_y, spacing_z = reader.GetSpacing()
    origin_x, origin_y, origin_z = reader.GetOrigin()
    return Geometry(
        (z, y, x),
        (spacing_z, spacing_y, spacing_x),
        (origin_z, origin_y, origin_x),
        tuple(reader.GetDirection()[::-1]),
    )


def _series_files(folder: Path) -> tuple[str, ...]:
    reader = _itk().ImageSeriesReader
    with _told(folder, "not a readable DICOM folder"):
        series = reader.GetGDCMSeriesIDs(str(folder))
        if len(series) != 1:
            raise PipelineError(
                f"{folder}: found {len(series)} DICOM series, expected 1; one folder per series"
            )
        files: tuple[str, ...] = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    return files


def _series_geometry(folder: Path) -> Geometry:
    """The stack's grid: in-plane from the first slice, z from the slices' positions."""
    files = _series_files(folder)
    slices = [_geometry(_header(Path(file)), Path(file)) for file in files]
    first = slices[0]
    if any(one.shape != first.shape or one.direction != first.direction for one in slices):
        raise PipelineError(f"{folder}: its slices differ in size or direction; keep one stack")
    if len(slices) == 1:
        return first
    positions = np.array([one.origin for one in slices])
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if np.ptp(gaps) > UNEVEN_GAP * np.median(gaps):
        raise PipelineError(
            f"{folder}: distance between slices from {gaps.min():g} to {gaps.max():g} mm, "
            "expected all equal; a slice is missing or doubled"
        )
    shape = (len(slices), *first.shape[1:])
    return Geometry(shape, (float(gaps.mean()), *first.spacing[1:]), first.origin, first.direction)
