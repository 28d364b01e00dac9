"""Reads and writes medical images in `(z, y, x)` order; SimpleITK and its `(x, y, z)` stay here."""

from __future__ import annotations

import importlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault, one_line
from pipeline.storage import image_headers
from pipeline.storage.geometry import Geometry, check_grid, is_right_angled

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
UNEVEN_GAP = 0.01  # of the median distance between DICOM slices


@dataclass(frozen=True)
class Volume:
    """An image on its grid; `array` is (z, y, x) in the file's own dtype and units."""

    array: npt.NDArray[Any]
    geometry: Geometry


def read_geometry(path: Path, channel: int | None = None, *, tilted: bool = False) -> Geometry:
    """The grid of a 3D image, read from its header alone; see `read_volume`.

    Raises:
        PipelineError: the file is missing or unreadable, or is not one 3D image on a grid.
    """
    _check_exists(path)
    geometry = _series_geometry(path) if path.is_dir() else _geometry(_header(path), path, channel)
    _check_grid(path, geometry, tilted=tilted)
    return geometry


def read_volume(path: Path, channel: int | None = None, *, tilted: bool = False) -> Volume:
    """A whole 3D image in its own dtype, from a file or a folder of DICOM slices.

    `channel`, from 0, chooses the volume of a 4D image, or the value of each voxel; None refuses.
    `tilted` lets slices pass that follow one another aslant (`geometry.is_tilted`).

    Raises:
        PipelineError: the file is missing, truncated or unreadable, or is not one 3D image on a
            grid (`geometry.check_grid`).
    """
    _check_exists(path)
    volume = _read_series(path) if path.is_dir() else _read_file(path, channel)
    _check_grid(path, volume.geometry, volume.array, tilted=tilted)
    return volume


def _read_series(folder: Path) -> Volume:
    geometry = _series_geometry(folder)
    reader = _itk().ImageSeriesReader()
    reader.SetFileNames(_series_files(folder))
    return Volume(_pixels(reader, folder), geometry)


def _read_file(path: Path, channel: int | None) -> Volume:
    image_headers.check_complete(path)
    header = _header(path)
    geometry = _geometry(header, path, channel)
    if geometry.shape[0] == 1 and _is_dicom(path):  # it would otherwise count as a scan
        remedy = "give the series' folder"
        raise file_fault(path, "one slice of a DICOM series", "a scan", remedy)
    _check_grid(path, geometry, tilted=True)  # of some, ITK would only say its own words
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    if header.GetDimension() == 4:
        reader.SetExtractIndex([0, 0, 0, channel or 0])
        reader.SetExtractSize([*header.GetSize()[:3], 0])
    array = _pixels(reader, path)
    if array.ndim == 4:  # (z, y, x, channel)
        array = np.ascontiguousarray(array[..., channel or 0])
    image_headers.restore_not_finite(path, array, channel or 0)
    return Volume(array, geometry)


def _pixels(reader: Any, path: Path) -> npt.NDArray[Any]:
    with _short_itk_errors(path, "truncated or damaged"):
        array: npt.NDArray[Any] = _itk().GetArrayFromImage(reader.Execute())
    return array


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def write_volume(
    path: Path, array: npt.NDArray[Any], geometry: Geometry, *, compress: bool = True
) -> None:
    """Write a 3D image `(z, y, x)`, which a reader sees whole or not at all.

    The suffix gives the format; `compress` is for all but .nii and .nii.gz. Bool becomes uint8.

    Raises:
        PipelineError: unknown suffix, shapes differ, a NIfTI file of axes that are not at right
            angles, or the folder cannot be written.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise PipelineError(f"{path}: unknown image suffix; use one of {', '.join(SUFFIXES)}")
    if array.shape != geometry.shape:
        raise PipelineError(f"{path}: array has shape {array.shape}, its grid {geometry.shape}")
    if path.name.lower().endswith(image_headers.NIFTI) and not is_right_angled(geometry):
        # ITK would write the nearest right-angled grid
        raise PipelineError(f"{path}: NIfTI is written at right angles only; use .mha")
    itk = _itk()
    image = itk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(geometry.direction[::-1])
    # in a folder of its own, a .mhd can name its data file by the final name
    folder = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True)
        with _short_itk_errors(path, "not written", "look at the folder's rights and space"):
            itk.WriteImage(image, str(folder / path.name), useCompression=compress)
        # the header comes last, after the data file that it names
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
def _short_itk_errors(path: Path, fault: str, remedy: str = "") -> Iterator[None]:
    """Turn ITK's exceptions of many lines into errors of one line."""
    try:
        yield
    except RuntimeError as error:
        reason = one_line(str(error).split("ERROR:")[-1])
        fault = f"{fault} (ITK: {reason})"
        raise file_fault(path, fault, "", remedy or image_headers.FETCH_AGAIN) from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        expected = "an image file or a DICOM folder"
        raise file_fault(path, "not there", expected, "correct the path or fetch it")


def _header(path: Path) -> Any:
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    with _short_itk_errors(path, "not a readable image"):
        reader.ReadImageInformation()
    return reader


def _geometry(reader: Any, path: Path, channel: int | None = None) -> Geometry:
    _check_channel(reader, path, channel)
    axes = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
    shape, spacing, origin = reader.GetSize()[2::-1], reader.GetSpacing(), reader.GetOrigin()
    direction = tuple(axes[::-1, ::-1].ravel().tolist())
    return Geometry(tuple(shape), spacing[2::-1], origin[2::-1], direction)


def _check_channel(reader: Any, path: Path, channel: int | None) -> None:
    """Refuse an image that is not 3D, and one of several volumes without a valid choice."""
    dimension, values = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimension == 4 and values == 1:
        count, kind = reader.GetSize()[3], f"a 4D image of {reader.GetSize()[3]} volumes"
    elif dimension == 3:
        count, kind = values, f"{values} values per voxel"
    else:
        raise file_fault(path, f"a {dimension}D image", "3D", "split or stack it")
    if channel is None and count > 1:
        remedy = f"split it, or for images set source.channel to one of 0 … {count - 1}"
        raise file_fault(path, kind, "one 3D image", remedy)
    if channel is not None and channel >= count:
        fault = f"{kind}, but source.channel is {channel}"
        raise file_fault(path, fault, f"0 … {count - 1}", "correct it")


def _check_grid(
    path: Path,
    geometry: Geometry,
    array: npt.NDArray[Any] | None = None,
    *,
    tilted: bool,
) -> None:
    # ITK puts 1 mm in place of a spacing that is not above 0
    if path.is_file() and (stored := image_headers.stored_spacing(path)):
        geometry = replace(geometry, spacing=(stored[2], stored[1], stored[0]))
    check_grid(path, geometry, array, tilted=tilted)


def _series_files(folder: Path) -> tuple[str, ...]:
    reader = _itk().ImageSeriesReader
    with _short_itk_errors(folder, "not a readable DICOM folder"):
        series = reader.GetGDCMSeriesIDs(str(folder))
        if len(series) != 1:
            raise file_fault(folder, f"{len(series)} DICOM series", "1", "one folder per series")
        files: tuple[str, ...] = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    return files


def _series_geometry(folder: Path) -> Geometry:
    """The grid of a stack of slices: in the plane the first slice's, along z their positions'."""
    files = _series_files(folder)
    slices = [_geometry(_header(Path(file)), Path(file)) for file in files]
    first = slices[0]
    if any((part.shape, part.direction) != (first.shape, first.direction) for part in slices):
        fault = "its slices differ in size or direction"
        raise file_fault(folder, fault, "one stack", "keep one stack")
    if len(slices) == 1:
        return first
    positions = np.array([part.origin for part in slices])
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if np.ptp(gaps) > UNEVEN_GAP * np.median(gaps):
        fault = f"distance between slices from {gaps.min():g} to {gaps.max():g} mm"
        remedy = "a slice is missing or doubled: export the series again"
        raise file_fault(folder, fault, "all equal", remedy)
    shape = (len(slices), *first.shape[1:])
    return Geometry(shape, (float(gaps.mean()), *first.spacing[1:]), first.origin, first.direction)
