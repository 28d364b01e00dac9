"""What the files that a stage was given looked like when it read them.

Snakemake compares times, so it misses a file that an older one replaced, as `cp -p` does. A file is
known by its size and time; where one of them differs, either way, its content decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.storage.files import file_digest, remembered, write_json

FileStats = dict[str, int]


class SourceChanges(NamedTuple):
    """What differs from a note."""

    replaced: list[Path]  # files that hold something else by now
    touched: dict[str, dict[str, Any]]  # what to note of those of which only the time changed
    unknown: bool = False  # the note is damaged, so nothing is known of any file


def file_stats(files: Iterable[Path]) -> dict[Path, FileStats]:
    """Size and time of every file that can be seen, to be taken before it is read."""
    stats = {}
    for path in files:
        with suppress(OSError):  # the stage that reads it reports it
            stats[path] = _stats(path)
    return stats


def write_source_note(
    note: Path, stats: Mapping[Path, FileStats], digests: Mapping[Path, str]
) -> None:
    """Note the `file_stats` from before files were read, and SHA-256 of those that could be."""
    files = {str(path): {**seen, "sha256": digests.get(path, "")} for path, seen in stats.items()}
    write_json(note, {"files": files})


def source_changes(note: Path) -> SourceChanges:
    """Compare the noted files with what lies there now; nothing is noted anew."""
    changes = SourceChanges([], {})
    files = _noted(note)
    if files is None:
        return changes._replace(unknown=os.path.lexists(note))
    for name, noted in files.items():
        try:
            stats = _stats(Path(name))
            if stats.items() <= noted.items():
                continue
            digest = file_digest(Path(name))
        except OSError:  # Snakemake reports a missing file, and the stage one that it cannot read
            continue
        if digest == noted["sha256"]:
            changes.touched[name] = {**stats, "sha256": digest}
        else:
            changes.replaced.append(Path(name))
    return changes


def listing_changes(note: Path, files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Of the files that a stage would read now, those that are not noted; and noted ones beyond.

    A note that cannot be used tells of none: `source_changes` says that nothing is known. A file
    that cannot be seen is never noted, so it counts as new only once it can be.
    """
    noted = _noted(note)
    if noted is None:
        return [], []
    listed = {os.path.normpath(path) for path in files}
    known = set(map(os.path.normpath, noted))
    came = (path for path in map(Path, sorted(listed - known)) if path.exists())
    return [*came], [*map(Path, sorted(known - listed))]


def unchanged_files(note: Path) -> dict[str, str]:
    """SHA-256 of each noted file, by its path, whose size and time are those of the note."""
    stats = file_stats(map(Path, noted := _noted(note) or {}))
    kept = {str(path): seen for path, seen in stats.items()}
    return {
        name: str(noted[name]["sha256"])
        for name in kept
        if kept[name].items() <= noted[name].items()
    }


def note_touched(note: Path, touched: Mapping[str, Mapping[str, Any]]) -> None:
    """Spare the next plan the reading of files that were only touched."""
    with suppress(OSError):  # the results are somebody else's, and the files are read again
        write_json(note, {"files": {**(_noted(note) or {}), **touched}})


def _noted(note: Path) -> dict[str, dict[str, Any]] | None:
    """The files of a note; None where there is none that can be used."""
    files = (remembered(note) or {}).get("files")
    if not isinstance(files, dict):
        return None
    whole = all(isinstance(noted, dict) and "sha256" in noted for noted in files.values())
    return files if whole else None


def _stats(path: Path) -> FileStats:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
