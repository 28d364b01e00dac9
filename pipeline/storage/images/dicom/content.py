"""Which files are DICOM, and which may hold slices, told from their first bytes.

Names tell nothing: archives call a slice `CT.<uid>`, or by its UID alone. A plan asks, too, so this
needs neither numpy nor pydicom.
"""

from __future__ import annotations

import re
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
    # image type of a localizer, three samples per pixel
    + rb"|\x08\x00\x08\x00"
    + _CS
    + rb"[A-Z0-9_ \\]*LOCALIZER"
    + rb"|\x28\x00\x02\x00(?:US\x02\x00|\x02\x00\x00\x00)\x03\x00",
    re.S,
)


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
    return NO_SLICE.search(head) is None


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
