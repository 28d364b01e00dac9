"""NRRD headers, parsed strictly: what ITK would skip, guess or obey is refused.

ITK takes 1 mm for a spacing that is missing or NaN, and centimetres for millimetres.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from pipeline.errors import file_fault
from pipeline.storage.images.formats.image_bytes import (
    CORRECT,
    StoredImage,
    Stream,
    beside,
    check_plain,
    no_header,
    numbers,
    opened,
    whole_numbers,
)

INTEGERS = {"short": 2, "int": 4, "longlong": 8, "long long": 8, "int16_t": 2, "int32_t": 4}
INTEGERS |= {"int16": 2, "int32": 4, "int64": 8, "int64_t": 8, "int8": 1, "int8_t": 1}
INTEGERS |= {"char": 1, "short int": 2, "long long int": 8}
BYTES = {"float": 4, "double": 8} | {
    name: size for name, size in INTEGERS.items() if name != "char"
}
BYTES |= {f"u{name}": size for name, size in INTEGERS.items() if " " not in name}
BYTES |= {f"{sign} {n}": s for sign in ("signed", "unsigned") for n, s in INTEGERS.items()}
STREAMS: dict[str, Stream] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
# ITK turns the first three into its own axes, and takes the others as if they were
SPACES = {"left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps"}
SPACES |= {"ras", "las", "scanner-xyz", "3d-right-handed"}
MILLIMETRES = re.compile(r'(\s*"(mm|millimet(er|re)s?|\?*)")*\s*')
EXTENDED = {"domain", "space", "time", "none", "???"}  # kinds of axes along which voxels lie
VECTOR = re.compile(r"\([^()]*\)|none")
LONGEST_LINE = 1 << 16
MOST_LINES = 10_000


def read_header(path: Path) -> StoredImage:
    """What a NRRD header says.

    Raises:
        PipelineError: the header is missing, unreadable, or says what ITK would read wrongly.
    """
    header, start = _fields(path)
    for key in ("dimension", "sizes", "type", "encoding"):
        if key not in header:
            raise file_fault(path, f"no {key!r} in the header", "one of an image", CORRECT)
    (dimension,) = whole_numbers(path, "dimension", header["dimension"], 1)
    sizes = whole_numbers(path, "sizes", header["sizes"], dimension)
    spacing = _spacing(path, header, dimension)
    if (size := BYTES.get(header["type"].lower())) is None:
        raise file_fault(path, f"type: {header['type'][:60]}", "a type of numbers", "convert it")
    if (stream := STREAMS.get(header["encoding"].lower())) is None:
        raise file_fault(path, f"encoding: {header['encoding'][:60]}", "raw or gzip", "convert it")
    for key in ("line skip", "byte skip"):
        if header.get(key, "0") != "0":
            raise file_fault(path, f"{key}: {header[key][:60]}", "0", "export it without")
    data = path
    if (name := header.get("data file")) is not None:
        data, start = beside(path, name), 0
    return StoredImage(sizes, spacing, data, start, size * math.prod(sizes), stream)


def _spacing(path: Path, header: dict[str, str], dimension: int) -> tuple[float, ...] | None:
    """Spacing in mm along each axis; None where `space directions` hold it."""
    if (space := header.get("space", "lps").lower()) not in SPACES:
        raise file_fault(
            path, f"space: {space[:60]}", "LPS, RAS or LAS", "export it in one of them"
        )
    for key in ("space units", "units"):
        if not MILLIMETRES.fullmatch(header.get(key, "")):
            # axes that are no direction in space have units of their own
            if key == "units" and "space directions" in header:
                continue
            raise file_fault(path, f"{key}: {header[key][:60]}", '"mm"', "export it in mm")
    if "space directions" in header:
        _check_directions(path, header, dimension)
        return None
    if "spacings" not in header:
        fault, expected = "no spacing in the header", "'space directions' or 'spacings'"
        raise file_fault(path, fault, expected, CORRECT)
    spacing = numbers(path, "spacings", header["spacings"], dimension)
    kinds = header.get("kinds", "").lower().split()
    if len(kinds) == dimension:
        steps = zip(spacing, kinds, strict=True)
        spacing = tuple(step for step, kind in steps if kind in EXTENDED)
    for key in ("axis mins", "axis maxs"):
        numbers(path, key, header.get(key, "0"), dimension if key in header else 1)
    return spacing


def _check_directions(path: Path, header: dict[str, str], dimension: int) -> None:
    text = header["space directions"]
    vectors = VECTOR.findall(text)
    inside = [vector[1:-1].replace(",", " ") for vector in vectors if vector != "none"]
    (space,) = whole_numbers(path, "space dimension", header.get("space dimension", "3"), 1)
    axes = [numbers(path, "space directions", vector, space) for vector in inside]
    if (
        VECTOR.sub("", text).strip()
        or len(vectors) != dimension
        or not 3 <= len(axes) == space <= 4
    ):
        fault, expected = (
            f"space directions: {text[:60]}",
            "three vectors of three numbers, or in 4D four",
        )
        raise file_fault(path, fault, expected, CORRECT)
    origin = header.get("space origin", f"({'0 ' * space})").strip()
    axes.append(numbers(path, "space origin", origin.strip("()").replace(",", " "), space))
    if not all(math.isfinite(number) for axis in axes for number in axis):
        fault = f"space directions: {text[:60]}, space origin: {origin[:60]}"
        raise file_fault(path, fault, "finite numbers", CORRECT)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Values by field in small letters, synonyms under one name; bytes before what follows."""
    fields: dict[str, str] = {}
    with opened(path) as file:
        if not re.match(rb"NRRD000[1-5]\r?\n", file.readline(16)):
            raise no_header(path, "NRRD")
        for number in range(MOST_LINES):
            line = file.readline(LONGEST_LINE).decode("utf-8", "surrogateescape")
            text = line.rstrip("\r\n")
            if not text:
                return fields, file.tell()  # of a detached header the end may be no empty line
            if text.startswith("#") or re.match(r"[^:]+:=", text):  # a comment, or a key of others
                continue
            parts = re.fullmatch(r"([A-Za-z][A-Za-z ]*): (.*)", text)
            name = _name(parts[1]) if parts else ""
            if parts is None or name in fields or not line.endswith("\n"):
                fault = f"line {number + 2} of the header: {text[:60]!r}"
                raise file_fault(path, fault, "FIELD: VALUE, each field once", CORRECT)
            fields[name] = parts[2].lstrip(" \t")  # at its end, ITK takes blanks for a file's name
            if name != "content":
                check_plain(path, name, fields[name])
    raise file_fault(path, "a header without end", "an empty line after it", CORRECT)


def _name(field: str) -> str:
    joined = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}
    joined |= {"axismins": "axis mins", "axismaxs": "axis maxs"}
    return joined.get(field.lower(), field.lower())
