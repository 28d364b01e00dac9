"""Folders of many cases' stores: each lies a folder deeper, named by a digest of its case.

File systems, and people, get slow with a hundred thousand entries in one folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.storage.files import write_json

MOST_IN_FOLDER = 2_000  # cases of a data set whose stores lie side by side
BY_DIGEST = "[0-9a-f][0-9a-f]"


def digest_folder(case: str) -> str:
    """The folder of a case among many: a stable function of its name, of 256 values."""
    return hashlib.sha256(case.encode()).hexdigest()[:2]


def note_many(note: Path, cases: int) -> None:
    """Have stores lie in folders by digest where there are many; what is there stays."""
    if cases > MOST_IN_FOLDER and not note.exists():
        write_json(note, {"folders": "the first two hex digits of the SHA-256 of a case's name"})


def deeper(pattern: str) -> str:
    """A pattern of what lies in folders by digest: `*/*.zarr` → `*/[0-9a-f][0-9a-f]/*.zarr`."""
    *folders, name = pattern.split("/")
    return "/".join([*folders, BY_DIGEST, name])
