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

from pipeline.errors import Finding, PipelineError, file_fault, one_line
from pipeline.storage.images import headers
from pipeline.storage.images.dicom.content import is_dicom
from pipeline.storage.images.dicom.segmentation import read_segmentation, segmentation_file
from pipeline.storage.images.dicom.volume import dicom_geometry, dicom_volume
from pipeline.storage.images.formats.channels import check_channel
from pipeline.storage.images.formats.image_bytes import FETCH_AGAIN
from pipeline.storage.images.formats.itk_warnings import heard_warnings, listen
from pipeline.storage.images.formats.nifti_image import nifti_geometry, nifti_values
from pipeline.storage.images.geometry import Geometry, check_grid, is_right_angled
from pipeline.storage.images.names import META_IMAGE, NIFTI, SUFFIXES


@dataclass(frozen=True)
class Volume:
    """An image on its grid; `array` is (z, y, x) in the file's own dtype and units."""

    array: npt.NDArray[Any]
    geometry: Geometry
    notes: tuple[Finding, ...] = ()  # what was left out beside it


def read_geometry(
    path: Path, channel: int | None = None, series: str | None = None, *, tilted: bool = False
) -> Geometry:
    """The grid of a 3D image, read from its header alone; see `read_volume`.

    Raises:
        PipelineError: the file is missing or unreadable, or is not one 3D image on a grid.
    """
    _check_exists(path)
    dicom = _holds_dicom(path)
    geometry = dicom_geometry(path, series) if dicom else _file_geometry(path, channel)
    check_grid(path, geometry, tilted=tilted)
    return geometry


def read_volume(
    path: Path, channel: int | None = None, series: str | None = None, *, tilted: bool = False
) -> Volume:
    """A whole 3D image in its own dtype, from a file or a folder of DICOM slices.

    `channel`, from 0, chooses the volume of a 4D image, or the value of each voxel; None refuses.
    `series`, its description or UID, chooses among the DICOM series of a folder; None refuses.
    `tilted` lets slices pass that follow one another aslant (`geometry.is_tilted`).

    Raises:
        PipelineError: the file is missing, truncated or unreadable, or is not one 3D image on a
            grid (`geometry.check_grid`).
    """
    _check_exists(path)
    if _holds_dicom(path):
        array, geometry, notes = dicom_volume(path, series)
        volume = Volume(array, geometry, tuple(notes))
    else:
        volume = _read_file(path, channel)
    check_grid(path, volume.geometry, volume.array, tilted=tilted)
    return volume


def read_label(path: Path, image: Geometry | None, *, tilted: bool = False) -> Volume:
    """A label as `read_volume` reads it; the segments of a DICOM SEG on the grid of its image.

    Without an image, a SEG's own grid is not told.

    Raises:
        PipelineError: as of `read_volume`; contours, or a SEG that lies on another grid.
    """
    _check_exists(path)
    segmentation = segmentation_file(path) if _holds_dicom(path) else None
    if segmentation is None:
        return read_volume(path, tilted=tilted)
    array = read_segmentation(segmentation, image)
    return Volume(array, image or Geometry(array.shape, (1.0, 1.0, 1.0)))


def _holds_dicom(path: Path) -> bool:
    return path.is_dir() or is_dicom(path)


def _file_geometry(path: Path, channel: int | None) -> Geometry:
    headers.check_format(path)
    if headers.is_nifti(path):
        geometry = nifti_geometry(path, channel)
    else:
        headers.stored_image(path)  # refused here, ITK does not see it
        geometry = _geometry(_header(path), path, channel)
    # ITK puts 1 mm in place of a spacing that is not above 0
    stored = headers.stored_spacing(path) or geometry.spacing[::-1]
    spacing = (stored[2], stored[1], stored[0])
    check_grid(path, replace(geometry, spacing=spacing), tilted=True)
    return geometry


def _read_file(path: Path, channel: int | None) -> Volume:
    geometry = _file_geometry(path, channel)
    if headers.is_nifti(path):
        return Volume(nifti_values(path, channel), geometry)
    headers.check_complete(path)
    reader = _header(path)
    if reader.GetDimension() == 4:
        reader.SetExtractIndex([0, 0, 0, channel or 0])
        reader.SetExtractSize([*reader.GetSize()[:3], 0])
    array = _pixels(reader, path)
    if array.ndim == 4:  # (z, y, x, channel)
        array = np.ascontiguousarray(array[..., channel or 0])
    return Volume(array, geometry)


def _pixels(reader: Any, path: Path) -> npt.NDArray[Any]:
    with _short_itk_errors(path, "truncated or damaged"):
        array: npt.NDArray[Any] = _itk().GetArrayFromImage(reader.Execute())
    return array


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
    if path.name.lower().endswith(NIFTI) and not is_right_angled(geometry):
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
    listen(itk)
    return itk


@contextmanager
def _short_itk_errors(path: Path, fault: str, remedy: str = "") -> Iterator[None]:
    """Turn ITK's exceptions of many lines into errors of one line."""
    try:
        with heard_warnings(path):
            yield
    except RuntimeError as error:
        reason = one_line(str(error).split("ERROR:")[-1])
        fault = f"{fault} (ITK: {reason})"
        raise file_fault(path, fault, "", remedy or FETCH_AGAIN) from error


def _check_exists(path: Path) -> None:
    if not path.exists():
        expected = "an image file or a DICOM folder"
        raise file_fault(path, "not there", expected, "correct the path or fetch it")


def _header(path: Path) -> Any:
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    # the format whose header was checked, whatever others recognise in the file
    meta_image = path.name.lower().endswith(META_IMAGE)
    reader.SetImageIO("MetaImageIO" if meta_image else "NrrdImageIO")
    with _short_itk_errors(path, "not a readable image"):
        reader.ReadImageInformation()
    return reader


def _geometry(reader: Any, path: Path, channel: int | None = None) -> Geometry:
    check_channel(path, reader.GetSize(), reader.GetNumberOfComponents(), channel)
    axes = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
    shape, spacing, origin = reader.GetSize()[2::-1], reader.GetSpacing(), reader.GetOrigin()
    direction = tuple(axes[::-1, ::-1].ravel().tolist())
    return Geometry(tuple(shape), spacing[2::-1], origin[2::-1], direction)
