"""Grids and voxels of NIfTI-1 files, read without ITK.

ITK follows sform or qform by rules of its own, reads NaN and infinity as 0, fills what is cut off
with zeros, and does not open a sheared image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.images.formats.channels import check_channel
from pipeline.storage.images.formats.image_bytes import (
    Stream,
    check_length,
    check_memory,
    inflated,
    opened,
)
from pipeline.storage.images.formats.nifti_header import SLACK, NiftiHeader, read_header
from pipeline.storage.images.geometry import Geometry

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def nifti_geometry(path: Path, channel: int | None = None) -> Geometry:
    """The grid of one volume, as the header says it.

    Raises:
        PipelineError: the header is missing, unreadable or contradicts itself, or the file is not
            one 3D image.
    """
    return _geometry(_one_volume(path, channel))


def _one_volume(path: Path, channel: int | None) -> NiftiHeader:
    header = read_header(path)
    check_channel(path, header.sizes, header.colours, channel)
    return header


def _geometry(header: NiftiHeader) -> Geometry:
    x, y, z = header.sizes[:3]
    if header.affine is None:
        return Geometry((z, y, x), header.spacing[::-1])
    affine = RAS_TO_LPS @ np.array(header.affine)
    axes, origin = affine[:, :3] / np.linalg.norm(affine[:, :3], axis=0), affine[:, 3]
    direction, first = axes[::-1, ::-1].ravel().tolist(), origin[::-1].tolist()
    return Geometry((z, y, x), header.spacing[::-1], tuple(first), tuple(direction))


def nifti_values(path: Path, channel: int | None = None) -> npt.NDArray[Any]:
    """The voxels (z, y, x) of one volume: as stored, or scaled as float32 (float64 of float64).

    Raises:
        PipelineError: the same, or the data are cut off, damaged or too many.
    """
    header = _one_volume(path, channel)
    content = _volume_bytes(path, header, channel or 0 if header.colours == 1 else 0)
    stored = np.frombuffer(content, header.dtype)
    if header.colours > 1:
        stored = stored[channel or 0 :: header.colours]
    array = stored.reshape(header.sizes[2::-1])
    if (header.slope, header.intercept) == (1.0, 0.0):
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    dtype = np.float64 if array.dtype.itemsize == 8 and array.dtype.kind == "f" else np.float32
    with np.errstate(over="ignore"):  # infinity is found where images are checked
        return np.asarray(array.astype(np.float64) * header.slope + header.intercept, dtype)


def _volume_bytes(path: Path, header: NiftiHeader, volume: int) -> bytearray:
    """The bytes of one volume; all others are read as well, for the checksum behind them."""
    check_memory(path, header.volume_bytes)
    start = header.offset + volume * header.volume_bytes
    stop, at, kept = start + header.volume_bytes, 0, bytearray()
    stream: Stream = "gzip" if path.name.lower().endswith(".gz") else "raw"
    with opened(path) as file:
        for block in inflated(path, file, stream, header.length + SLACK + 1):
            kept += block[max(start - at, 0) : max(stop - at, 0)]
            at += len(block)
    check_length(path, at, header.length, SLACK)
    return kept
