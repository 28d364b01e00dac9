"""The bytes of an image file: what its header promises against what lies there and what inflates.

Pure Python, because a plan lists the files of all cases without numpy.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from pipeline.errors import PipelineError, file_fault, one_line

FETCH_AGAIN = "fetch or export it again"
CORRECT = "correct the header"
BLOCK = 1 << 22
LONGEST_NAME = 255  # bytes
# float() would take digits of any script, underscores and blanks, and ITK none of them
NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf)", re.A | re.I)
CONTENTS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
CONTENTS |= {b"BM": "BMP", b"# vtk": "VTK", b"\x89HDF": "HDF5", b"NRRD": "NRRD", b"PK": "zip"}
CONTENTS |= {b"\x1f\x8b": "gzip", b"ObjectType": "MetaImage", b"\\\x01\0\0": "NIfTI"}

Stream = Literal["raw", "zlib", "gzip"]


@dataclass(frozen=True)
class StoredImage:
    """What a MetaImage or NRRD header says, and where the voxels lie."""

    sizes: tuple[int, ...]  # along x, y, z, …, in the order of the file
    spacing: tuple[float, ...] | None  # mm along the same; None where directions hold it
    data: Path  # the header's own file, or the one file beside it
    start: int  # bytes in `data` before the first voxel
    length: int  # bytes of all voxels, uncompressed
    stream: Stream


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file, open for reading: a pipe would block for ever, a device never end.

    Raises:
        PipelineError: it is missing, of another kind, or empty.
    """
    try:
        if not path.is_file():
            found = "not a regular file" if os.path.lexists(path) else "not there"
            raise file_fault(path, found, "an image file", "give the file itself")
        if path.stat().st_size == 0:
            raise file_fault(path, "the file is empty", "an image", FETCH_AGAIN)
        file = path.open("rb")
    except OSError as error:
        raise file_fault(path, one_line(error.strerror or error), "a readable file") from error
    with file:
        yield file


def content_kind(path: Path) -> str:
    """What a file holds by its first bytes: "DICOM", "PNG", …; "" if they are not known."""
    with opened(path) as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return "DICOM"
    return next((kind for magic, kind in CONTENTS.items() if head.startswith(magic)), "")


def no_header(path: Path, kind: str) -> PipelineError:
    """The error for a file whose content is not what its suffix says."""
    content = content_kind(path)
    found = f"no {kind} header" + (f", but the content is {content}" if content else "")
    return file_fault(path, found, "the format of its suffix", "rename it, or export it again")


def check_plain(path: Path, key: str, value: str) -> None:
    """Refuse what ITK may take otherwise than we do: blanks of other scripts, control characters.

    Raises:
        PipelineError: there are some in a field's `value`, or bytes that are no UTF-8.
    """
    if re.search(r"[^\S \t]|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]", value):
        raise file_fault(path, f"{key}: {value[:60]!r}", "plain text", CORRECT)


def numbers(path: Path, key: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """The numbers of a header's field, `count` of them, of plain ASCII digits.

    Raises:
        PipelineError: something else stands there.
    """
    words = text.split()
    if not all(map(NUMBER.fullmatch, words)) or (count is not None and len(words) != count):
        expected = "numbers" if count is None else f"{count} numbers"
        raise file_fault(path, f"{key}: {text[:60]!r}", expected, CORRECT)
    return tuple(map(float, words))


def whole_numbers(path: Path, key: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """The same for sizes: whole and above 0, and below 2³¹ each."""
    values = numbers(path, key, text, count)
    if not all(value.is_integer() and 0 < value < 2**31 for value in values):
        raise file_fault(path, f"{key}: {text[:60]!r}", "whole numbers above 0", CORRECT)
    return tuple(map(int, values))


def beside(header: Path, name: str) -> Path:
    """The data file that a header names.

    Raises:
        PipelineError: not one plain file name: a list, a pattern, or another folder.
    """
    listed = re.match("LIST|(?i:list|local)$", name)  # what ITK takes for a list, or this file
    unfit = name != name.strip() or len(os.fsencode(name)) > LONGEST_NAME
    if not name or unfit or listed or name in (".", "..") or re.search(r"[/\\%\x00-\x1f]", name):
        fault, expected = f"its data file is {name[:60]!r}", "the name of one file beside it"
        raise file_fault(header, fault, expected, "store it as one file")
    data = header.parent / name
    if not data.is_file():
        fault = f"its data file {name} is {'no regular file' if data.exists() else 'missing'}"
        raise file_fault(header, fault, "", "put it beside the header")
    return data


def check_length(path: Path, found: int, declared: int, slack: int = 0) -> None:
    """Refuse a file with fewer or more bytes than its header declares.

    Raises:
        PipelineError: they differ; `slack` more are let pass.
    """
    if found < declared:
        raise file_fault(
            path, f"truncated, found {found} bytes of data", f"{declared}", FETCH_AGAIN
        )
    if found > declared + slack:
        fault = f"more data than its header declares, found {found} bytes"
        raise file_fault(path, fault, f"{declared}", FETCH_AGAIN)


def check_memory(path: Path, declared: int) -> None:
    """Refuse, before a byte is read, what this machine cannot hold.

    Raises:
        PipelineError: the header declares more bytes than the machine's memory has.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if declared > memory:
        fault = f"its header declares {declared / 1e9:.1f} GB of voxels"
        expected = f"at most the memory of {memory / 1e9:.1f} GB"
        raise file_fault(path, fault, expected, "correct the header or use a larger machine")


def check_data(path: Path, image: StoredImage) -> None:
    """Read all data once: the length is the declared one, and a stream's checksum is right.

    Raises:
        PipelineError: the data of the header `path` are cut off, damaged or too many.
    """
    check_memory(path, image.length)
    with opened(image.data) as file:
        file.seek(image.start)
        if image.stream == "raw":
            found = image.data.stat().st_size - image.start
        else:
            found = sum(map(len, inflated(image.data, file, image.stream, image.length + 1)))
    check_length(image.data, found, image.length)


def inflated(path: Path, file: BinaryIO, stream: Stream, limit: int) -> Iterator[bytes]:
    """Blocks of what a stream holds; checksums are compared, and it stops soon after `limit` bytes.

    Raises:
        PipelineError: the stream is cut off or damaged.
    """
    blocks = {"raw": _raw_blocks, "gzip": _gzip_blocks, "zlib": _zlib_blocks}[stream](file)
    try:
        for block in blocks:
            yield block
            limit -= len(block)
            if limit <= 0:
                return
    except (EOFError, zlib.error, OSError) as error:
        raise file_fault(path, f"truncated or damaged ({error})", "", FETCH_AGAIN) from error


def _raw_blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(BLOCK), b"")


def _gzip_blocks(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as content:
        yield from iter(lambda: content.read(BLOCK), b"")


def _zlib_blocks(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    while not stream.eof:
        compressed = stream.unconsumed_tail or file.read(BLOCK)
        block = stream.decompress(compressed, BLOCK)
        if not (compressed or block or stream.eof):
            raise EOFError("the compressed stream ends early")
        yield block
    if stream.unused_data or file.read(1):
        raise zlib.error("bytes after the compressed stream")
