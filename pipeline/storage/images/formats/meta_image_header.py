"""MetaImage headers (.mha, .mhd), parsed strictly: what ITK would skip, guess or obey is refused.

ITK takes 1 mm for a missing spacing, the last of two values, and a pattern for the name of a file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from pipeline.errors import file_fault
from pipeline.storage.images.formats.image_bytes import (
    CORRECT,
    FETCH_AGAIN,
    StoredImage,
    Stream,
    beside,
    check_plain,
    no_header,
    numbers,
    opened,
    whole_numbers,
)

BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4}
BYTES |= {"MET_UINT": 4, "MET_FLOAT": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_DOUBLE": 8}
# keys that mean the same; ITK obeys one of them
SYNONYMS = {"Position": "Offset", "Origin": "Offset", "Rotation": "TransformMatrix"}
SYNONYMS |= {"Orientation": "TransformMatrix", "ElementByteOrderMSB": "BinaryDataByteOrderMSB"}
# values under which ITK reads right; it ignores some of these keys, and others give another image
ONLY = {
    "ObjectType": r"image",
    "BinaryData": r"true|t|1",
    "BinaryDataByteOrderMSB": r"true|false|t|f|1|0",
    "CompressedData": r"true|false|t|f|1|0",
    "HeaderSize": r"0",
    "DistanceUnits": r"mm|\?",
    "ElementToIntensityFunctionSlope": r"1(\.0*)?",
    "ElementToIntensityFunctionOffset": r"[+-]?0(\.0*)?",
}
KEYS = {*ONLY, *SYNONYMS, *SYNONYMS.values(), "NDims", "DimSize", "ElementSpacing", "ElementSize"}
KEYS |= {"ElementType", "ElementNumberOfChannels", "CompressedDataSize", "ElementDataFile"}
KNOWN = {key.lower(): key for key in KEYS}
LONGEST_LINE = 4000  # ITK's parser has 4096 bytes for it
BLANKS = " \t\r\n"
MOST_LINES = 1000


def read_header(path: Path) -> StoredImage:
    """What a MetaImage header says.

    Raises:
        PipelineError: the header is missing, unreadable, or says what ITK would read wrongly.
    """
    header, start = _fields(path)
    for key, pattern in ONLY.items():
        if key in header and not re.fullmatch(pattern, header[key], re.I):
            fault = f"{key} = {header[key][:60]}, which is not read"
            expected = re.sub(r"\(.*\)\?|\[.*\]\?|\\", "", pattern).replace("|", " or ")
            raise file_fault(path, fault, expected, "export it without")
    for key in ("NDims", "DimSize", "ElementType", "ElementSpacing"):
        if key not in header:
            raise file_fault(path, f"no {key} in the header", "one of an image", CORRECT)
    (dimension,) = whole_numbers(path, "NDims", header["NDims"], 1)
    sizes = whole_numbers(path, "DimSize", header["DimSize"], dimension)
    spacing = numbers(path, "ElementSpacing", header["ElementSpacing"], dimension)
    for key, count in (("Offset", dimension), ("TransformMatrix", dimension**2)):
        if key in header and not all(map(math.isfinite, numbers(path, key, header[key], count))):
            raise file_fault(path, f"{key} = {header[key]}", "finite numbers", CORRECT)
    if (size := BYTES.get(header["ElementType"])) is None:
        fault = f"ElementType = {header['ElementType'][:60]}"
        raise file_fault(path, fault, f"one of {', '.join(BYTES)}", "convert it")
    channels = header.get("ElementNumberOfChannels", "1")
    (values,) = whole_numbers(path, "ElementNumberOfChannels", channels, 1)
    name = header["ElementDataFile"]
    data, start = (path, start) if name == "LOCAL" else (beside(path, name), 0)
    stream = _stream(header, data, start)
    return StoredImage(sizes, spacing, data, start, size * values * math.prod(sizes), stream)


def _stream(header: dict[str, str], data: Path, start: int) -> Stream:
    if header.get("CompressedData", "False")[0] not in "Tt1":
        return "raw"
    found = str(data.stat().st_size - start)
    # without it ITK takes the whole of another file, but of its own what memory held
    promised = header.get("CompressedDataSize", "none" if start else found)
    if promised != found:
        fault = f"truncated, or CompressedDataSize is wrong, found {found} bytes of data"
        raise file_fault(data, fault, promised, FETCH_AGAIN)
    return "zlib"


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Values by key up to `ElementDataFile`, synonyms under one key; bytes before what follows."""
    fields: dict[str, str] = {}
    with opened(path) as file:
        for number in range(MOST_LINES):
            line = file.readline(LONGEST_LINE)
            if not line.strip() and line:
                continue
            text = line.decode("utf-8", "surrogateescape")
            if len(line) == LONGEST_LINE or not (sign := re.search("[=:]", text)):
                break
            # ITK takes both signs, and blanks before the key
            key, value = text[: sign.start()].strip(BLANKS), text[sign.end() :].strip(BLANKS)
            known = KNOWN.get(key.lower(), key)
            key_is = SYNONYMS.get(known, known)
            if known != key or key_is in fields:
                fault = f"{key[:60]!r} in line {number + 1} of the header"
                raise file_fault(path, fault, f"{key_is} once, spelt so", CORRECT)
            if known in KEYS:
                check_plain(path, key, value)
            fields[key_is] = value
            if key == "ElementDataFile":
                return fields, file.tell()
    if not fields.keys() & {"NDims", "ObjectType"}:
        raise no_header(path, "MetaImage")
    fault, expected = "a header that cannot be read", "lines of KEY = VALUE up to ElementDataFile"
    raise file_fault(path, fault, expected, CORRECT)
