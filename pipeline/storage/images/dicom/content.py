"""Which files are DICOM, and which may hold slices, told from their first bytes.

Names tell nothing: archives call a slice `CT.<uid>`, or by its UID alone. A plan asks, too, so this
needs neither numpy nor pydicom.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

HEAD = 1 << 14
PREAMBLE = 128
USUAL = (".dcm", ".ima")  # so named, a file without DICOM in it is a damaged slice
# a data set without the preamble begins with its group 2 or 8, a first element and its length
BARE = re.compile(
    rb"[\x02\x08]\x00[\x00\x01\x05\x08\x12-\x18]\x00([ACDILSTU][A-Z]|..\x00\x00)", re.S
)
_UI, _CS = rb"(?:UI..|..\x00\x00)", rb"(?:CS..|..\x00\x00)"
NO_SLICE = re.compile(
    # SOP classes: directory, waveform, presentation, segmentation, report, document, radiotherapy
    rb"(?:\x02\x00\x02|\x08\x00\x16)\x00"
    + _UI
    + rb"1\.2\.840\.10008\.(?:1\.3\.10|5\.1\.4\.1\.1\.(?:9|11|66|88|104|481))(?![0-9])"
    # image type of a localizer
    + rb"|\x08\x00\x08\x00"
    + _CS
    + rb"[A-Z0-9_ \\]*LOCALIZER",
    re.S,
)
_US = rb"\x00(?:US\x02\x00|\x02\x00\x00\x00)"
COLOUR = re.compile(rb"\x28\x00\x02" + _US + rb"(..)", re.S)  # samples per pixel
ROWS = re.compile(rb"\x28\x00\x10" + _US, re.S)
FRAMES = re.compile(rb"\x28\x00\x08\x00(?:IS..|..\x00\x00) *0*([0-9]+)", re.S)
MODALITY = re.compile(rb"\x08\x00\x60\x00" + _CS + rb"([A-Z]+)", re.S)
SERIES = re.compile(rb"\x20\x00\x0e\x00" + _UI + rb"([0-9.]+)", re.S)
_NUMBER = rb" *([-+]?[0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?) *"
DIRECTION = re.compile(rb"\x20\x00\x37\x00(?:DS..|..\x00\x00)" + rb"\\".join([_NUMBER] * 6), re.S)
MOST_PICTURES = 100  # of a survey
APART = 0.1  # of a direction cosine


def is_dicom(path: Path) -> bool:
    """Whether a file holds DICOM."""
    return _is_dicom(_start(path, PREAMBLE + 4))


def may_hold_slices(path: Path) -> bool:
    """Whether a file looks like slices of a scan: no localizer, report, picture or segmentation.

    So does a damaged one that is called like a slice: reading it tells what is wrong with it.
    """
    head = _start(path, HEAD)
    if not _is_dicom(head):
        return path.suffix.lower() in USUAL
    samples = COLOUR.search(head)  # the first: a colour icon may follow
    return NO_SLICE.search(head) is None and (samples is None or samples[1] != b"\x03\x00")


def stated_modality(files: Sequence[Path]) -> str:
    """The Modality (`CT`, `MR`) that the first of files that may hold slices states, or ""."""
    slices = next(filter(may_hold_slices, files), None)
    stated = MODALITY.search(_start(slices, HEAD)) if slices else None
    return stated[1].decode() if stated else ""


def is_survey(files: Sequence[Path]) -> bool:
    """Whether each series in files that may hold slices is one picture, or of several directions.

    What their first bytes do not tell is no survey: reading it as a scan tells.
    """
    series: dict[bytes, list[bytes]] = defaultdict(list)
    for file in files[: MOST_PICTURES + 1]:
        head = _start(file, HEAD)
        uid = SERIES.search(head)
        series[uid[1] if uid else b""].append(head)
    return len(files) <= MOST_PICTURES and all(map(_is_no_stack, series.values()))


def _is_no_stack(heads: Sequence[bytes]) -> bool:
    if len(heads) == 1:
        frames = FRAMES.search(heads[0])
        return bool(ROWS.search(heads[0])) and (frames is None or frames[1] == b"1")
    found = [direction.groups() for direction in map(DIRECTION.search, heads) if direction]
    try:
        cosines = zip(*(map(float, direction) for direction in found), strict=True)
        return any(max(cosine) - min(cosine) > APART for cosine in cosines)
    except ValueError:
        return False


def _start(path: Path, size: int) -> bytes:
    try:
        if path.is_file():  # nothing waits for a pipe
            with path.open("rb") as file:
                return file.read(size)
    except OSError:  # reading it as an image tells
        pass
    return b""


def _is_dicom(head: bytes) -> bool:
    return head[PREAMBLE : PREAMBLE + 4] == b"DICM" or BARE.match(head) is not None
