"""Finding image files that end too early, before ITK reads them.

ITK reads a cut-off NIfTI file without complaint and leaves zeros where data are missing, and
tells of a cut-off MetaImage only on stderr. Both would pass for images.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import PipelineError

META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
BLOCK = 1 << 22


def check_complete(path: Path) -> None:
    """Refuse a NIfTI or MetaImage file that holds fewer bytes than its header promises.

    Other formats pass unread: ITK itself refuses them when they are cut off.

    Raises:
        PipelineError: the file, or the data file that it names, is empty, cut off or missing.
    """
    name = path.name.lower()
    if path.stat().st_size == 0:
        raise PipelineError(f"{path}: the file is empty; fetch or export it again")
    if name.endswith(".nii.gz"):
        _check_gzipped_nifti(path)
    elif name.endswith(".nii"):
        with path.open("rb") as file:
            expected = _nifti_bytes(file.read(544), path)
        _compare(path, path.stat().st_size, expected)
    elif name.endswith((".mhd", ".mha")):
        _check_meta_image(path)


def _check_gzipped_nifti(path: Path) -> None:
    try:
        with gzip.open(path, "rb") as file:
            head = file.read(544)
            found = len(head)
            while block := file.read(BLOCK):
                found += len(block)
    except (EOFError, zlib.error, OSError) as error:
        raise PipelineError(
            f"{path}: truncated or damaged ({error}); fetch or export it again"
        ) from error
    _compare(path, found, _nifti_bytes(head, path))


def _nifti_bytes(head: bytes, path: Path) -> int:
    """Length of an uncompressed NIfTI-1 or NIfTI-2 file by its header."""
    for order in "<>":
        if len(head) >= 352 and struct.unpack_from(order + "i", head)[0] == 348:
            sizes: tuple[int, ...] = struct.unpack_from(order + "8h", head, 40)
            (bits,) = struct.unpack_from(order + "h", head, 72)
            (offset,) = struct.unpack_from(order + "f", head, 108)
            break
        if len(head) >= 544 and struct.unpack_from(order + "i", head)[0] == 540:
            sizes = struct.unpack_from(order + "8q", head, 16)
            (bits,) = struct.unpack_from(order + "h", head, 14)
            (offset,) = struct.unpack_from(order + "q", head, 168)
            break
    else:
        raise PipelineError(f"{path}: no NIfTI header found; fetch or export it again")
    return int(offset) + math.prod(sizes[1 : 1 + sizes[0]]) * int(bits) // 8


def _check_meta_image(path: Path) -> None:
    with path.open("rb") as file:
        header = _meta_header(file)
        data_start = file.tell()
    target = header.get("ElementDataFile")
    if target is None:
        raise PipelineError(f"{path}: no MetaImage header found; fetch or export it again")
    if target == "LIST" or "%" in target:
        return
    if target == "LOCAL":
        data, found = path, path.stat().st_size - data_start
    else:
        data = path.parent / target
        if not data.is_file():
            raise PipelineError(
                f"{path}: its data file {target} is missing; put it beside the header"
            )
        found = data.stat().st_size
    expected = _meta_bytes(header)
    if expected is not None:
        _compare(data, found, expected)


def _meta_header(file: BinaryIO) -> dict[str, str]:
    """Keys and values up to `ElementDataFile`, after which the data of a .mha file begin."""
    header: dict[str, str] = {}
    for _ in range(1000):
        key, equals, value = file.readline(4096).decode("latin-1").partition("=")
        if not equals:
            break
        header[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    return header


def _meta_bytes(header: dict[str, str]) -> int | None:
    """Bytes of data that the header promises; None where it does not say."""
    if header.get("CompressedData", "False").lower() == "true":
        promised = header.get("CompressedDataSize", "")
        return int(promised) if promised.isdigit() else None
    size = META_BYTES.get(header.get("ElementType", ""))
    numbers = header.get("DimSize", "").split()
    if size is None or not numbers or not all(number.isdigit() for number in numbers):
        return None
    channels = header.get("ElementNumberOfChannels", "1")
    return size * math.prod(int(number) for number in numbers) * int(channels)


def _compare(path: Path, found: int, expected: int) -> None:
    if found < expected:
        raise PipelineError(
            f"{path}: truncated, found {found} bytes of data, expected {expected}; "
            "fetch or export it again"
        )
