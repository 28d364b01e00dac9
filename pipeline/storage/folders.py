"""Where stores and files lie beside a manifest, and the folders of many cases' stores.

Of many, each store lies a folder deeper, named by a digest of its case: file systems, and people,
get slow with a hundred thousand entries in one folder.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.storage.files import write_json

MOST_IN_FOLDER = 2_000  # cases of a data set whose stores lie side by side
BY_DIGEST = "[0-9a-f][0-9a-f]"
RECORD = ".provenance.json"


def digest_folder(case: str) -> str:
    """The folder of a case among many: a stable function of its name, of 256 values."""
    return hashlib.sha256(case.encode()).hexdigest()[:2]


def note_many(note: Path, cases: int) -> None:
    """Have stores lie in folders by digest where there are many; what is there stays."""
    if cases > MOST_IN_FOLDER and not note.exists():
        write_note(note)


def write_note(note: Path) -> None:
    """Write the note that stores lie in folders by digest."""
    write_json(note, {"folders": "the first two hex digits of the SHA-256 of a case's name"})


def note_is_lost(note: Path, stores: Path) -> bool:
    """Whether there is no such note, though `stores` lie so."""
    return not note.exists() and any(matching(stores, deeper("*.zarr")))


def deeper(pattern: str) -> str:
    """A pattern of what lies in folders by digest: `*/*.zarr` → `*/[0-9a-f][0-9a-f]/*.zarr`."""
    *folders, name = pattern.split("/")
    return "/".join([*folders, BY_DIGEST, name])


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """The sorted paths of a pattern below a folder, of which only names are held: they are many."""
    first, _, rest = pattern.partition("/")
    try:
        with os.scandir(folder) as entries:
            names = sorted(fnmatch.filter((entry.name for entry in entries), first))
    except OSError:  # it is not there, no folder, or closed, as for a glob
        return
    for name in names:
        if rest:
            yield from matching(folder / name, rest)
        else:
            yield folder / name


def stores_in(folder: Path, pattern: str) -> Iterator[Path]:
    """The stores of a pattern below a folder, set by set: those side by side, those by digest."""
    way, _, name = pattern.rpartition("/")
    for of_set in matching(folder, way) if way else [folder]:
        yield from matching(of_set, name)
        yield from matching(of_set, deeper(name))


def folder_of(manifest: Path) -> Path:
    """The undeclared folder that belongs to a manifest: `…/name.json` → `…/name/`."""
    return manifest.with_suffix("")


def listed(outputs: Iterable[Path], manifest: Path) -> list[str]:
    """Stores, models or masks as their manifest lists them: relative to its folder."""
    return [path.relative_to(manifest.parent).as_posix() for path in outputs]


def mask_note(mask: Path, case: str) -> Path:
    """What postprocess notes beside a mask: its fingerprint, voxels and SHA-256."""
    return mask.with_name(f"{case}.json")


def record_of(declared: Path) -> Path:
    """The record of the job that declares this file: `…/name.json` → `…/name.provenance.json`."""
    return declared.with_name(declared.stem + RECORD)


def is_record(path: Path) -> bool:
    """Whether a file is a record of a job, and no manifest; no result's name has a full stop."""
    return path.name.endswith(RECORD)
