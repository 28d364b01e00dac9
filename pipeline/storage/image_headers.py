"""Reads image files without ITK where ITK hides damage, and they would count as sound.

ITK fills a truncated NIfTI file with zeros, turns its NaN and infinity into 0, and reports a
truncated MetaImage only on stderr.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import file_fault

NIFTI = (".nii", ".nii.gz")
META_IMAGE = (".mhd", ".mha")
META_BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2}
META_BYTES |= {"MET_INT": 4, "MET_UINT": 4, "MET_FLOAT": 4, "MET_DOUBLE": 8}
NIFTI_FLOATS = {16: "f4", 64: "f8"}
BLOCK = 1 << 22
HEADER = 352
FETCH_AGAIN = "fetch or export it again"


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a NIfTI-1 header that locate its values."""

    order: str  # of bytes, as in `struct`
    sizes: tuple[int, ...]  # voxels along x, y, z, …
    spacing: tuple[float, ...]  # mm along x, y, z, as stored in the file
    code: int  # NIfTI's number of the data type
    bits: int  # per voxel
    offset: int  # bytes before the first voxel

    @property
    def length(self) -> int:
        """The length of the whole file in bytes, uncompressed."""
        return self.offset + math.prod(self.sizes) * self.bits // 8


def check_complete(path: Path) -> None:
    """Refuse a NIfTI or MetaImage file of fewer bytes than it promises; ITK refuses others itself.

    Raises:
        PipelineError: the file, or the data file that it names, is empty, truncated or missing.
    """
    name = path.name.lower()
    if path.stat().st_size == 0:
        raise file_fault(path, "the file is empty", "an image", FETCH_AGAIN)
    if name.endswith(NIFTI):
        with _nifti(path) as file:
            head, length = file.read(HEADER), path.stat().st_size
            if name.endswith(".gz"):
                length = len(head) + sum(map(len, iter(partial(file.read, BLOCK), b"")))
        _refuse_truncated(path, length, _nifti_header(head, path).length)
    elif name.endswith(META_IMAGE):
        _check_meta_image(path)


@contextmanager
def _nifti(path: Path) -> Iterator[BufferedIOBase]:
    """A NIfTI file open for reading, decompressed; what does not decompress is one error."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, OSError) as error:
        raise file_fault(path, f"truncated or damaged ({error})", "", FETCH_AGAIN) from error


def stored_spacing(path: Path) -> tuple[float, ...] | None:
    """Spacing in mm along x, y, z as stored in a NIfTI file; ITK would put 1 in place of 0 or NaN.

    Raises:
        PipelineError: the NIfTI-1 header is missing or unreadable.
    """
    return _stored_header(path).spacing if path.name.lower().endswith(NIFTI) else None


def _stored_header(path: Path) -> NiftiHeader:
    with _nifti(path) as file:
        return _nifti_header(file.read(HEADER), path)


def stored_shape(path: Path) -> tuple[int, int, int] | None:
    """Voxels (z, y, x) by the header of a NIfTI or MetaImage file, even if the data are truncated.

    Raises:
        PipelineError: the header is missing or unreadable.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        sizes = _stored_header(path).sizes
    elif name.endswith(META_IMAGE):
        with path.open("rb") as file:
            numbers = _meta_header(file).get("DimSize", "").split()
        sizes = tuple(int(number) for number in numbers if number.isdigit())
    else:
        return None
    if len(sizes) < 2:
        raise file_fault(path, "no size in the header", "one of an image", FETCH_AGAIN)
    return (sizes[2] if len(sizes) > 2 else 1), sizes[1], sizes[0]


def _nifti_header(head: bytes, path: Path) -> NiftiHeader:
    for order in "<>":
        size = struct.unpack_from(order + "i", head)[0] if len(head) >= HEADER else 0
        if size == 540:
            raise file_fault(path, "NIfTI-2", "NIfTI-1, which ITK reads", "save it as NIfTI-1")
        if size == 348:
            sizes = struct.unpack_from(order + "8h", head, 40)
            code, bits = struct.unpack_from(order + "2h", head, 70)
            spacing = struct.unpack_from(order + "3f", head, 80)
            (offset,) = struct.unpack_from(order + "f", head, 108)
            return NiftiHeader(order, sizes[1 : 1 + sizes[0]], spacing, code, bits, int(offset))
    raise file_fault(path, "no NIfTI header", "one of NIfTI-1", FETCH_AGAIN)


def restore_not_finite(path: Path, array: npt.NDArray[Any], channel: int = 0) -> None:
    """Put back into `array` (z, y, x), volume `channel`, NaN and infinity, which ITK reads as 0."""
    if array.dtype.kind != "f" or not path.name.lower().endswith(NIFTI):
        return
    with _nifti(path) as file:
        content = file.read()
    header = _nifti_header(content[:HEADER], path)
    if header.code in NIFTI_FLOATS:
        dtype = np.dtype(header.order + NIFTI_FLOATS[header.code])
        start = header.offset + channel * array.size * dtype.itemsize
        stored = np.frombuffer(content, dtype, array.size, start).reshape(array.shape)
        lost = ~np.isfinite(stored)
        array[lost] = stored[lost]


def _check_meta_image(path: Path) -> None:
    with path.open("rb") as file:
        header = _meta_header(file)
        data_start = file.tell()
    target = header.get("ElementDataFile")
    if target is None:
        raise file_fault(path, "no MetaImage header", "one with ElementDataFile", FETCH_AGAIN)
    if target == "LIST" or "%" in target:
        return
    if target == "LOCAL":
        data, length = path, path.stat().st_size - data_start
    else:
        data = path.parent / target
        if not data.is_file():
            remedy = "put it beside the header"
            raise file_fault(path, f"its data file {target} is missing", "", remedy)
        length = data.stat().st_size
    if (expected := _meta_bytes(header)) is not None:
        _refuse_truncated(data, length, expected)


def _meta_header(file: BufferedIOBase) -> dict[str, str]:
    """Keys and values up to `ElementDataFile`; in a .mha file the data follow it."""
    header: dict[str, str] = {}
    for _ in range(1000):
        key, equals, value = file.readline(4096).decode("latin-1").partition("=")
        if equals:
            header[key.strip()] = value.strip()
        if not equals or key.strip() == "ElementDataFile":
            break
    return header


def _meta_bytes(header: dict[str, str]) -> int | None:
    """Bytes of data that the header promises, or None if it does not say."""
    if header.get("CompressedData", "False").lower() == "true":
        promised = header.get("CompressedDataSize", "")
        return int(promised) if promised.isdigit() else None
    size = META_BYTES.get(header.get("ElementType", ""))
    numbers = header.get("DimSize", "").split()
    if size is None or not numbers or not all(number.isdigit() for number in numbers):
        return None
    channels = header.get("ElementNumberOfChannels", "1")
    return size * math.prod(int(number) for number in numbers) * int(channels)


def _refuse_truncated(path: Path, length: int, expected: int) -> None:
    if length < expected:
        raise file_fault(
            path, f"truncated, found {length} bytes of data", f"{expected}", FETCH_AGAIN
        )
