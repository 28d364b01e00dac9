"""What the files that a stage was given looked like when it read them.

Snakemake compares times, so it misses a file in whose place an older one was put: by `cp -p`,
`rsync -a`, or an unpacked release. A file is known by its size and time; where one of them differs,
either way, its content decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.storage.files import file_digest, read_json, write_json

FileStats = dict[str, int]


def file_stats(files: Iterable[Path]) -> dict[Path, FileStats]:
    """Size and time of every file that can be seen, to be taken before it is read."""
    found = {}
    for path in files:
        with suppress(OSError):  # who reads it tells of it
            found[path] = _look(path)
    return found


def write_source_note(
    note: Path, looks: Mapping[Path, FileStats], digests: Mapping[Path, str]
) -> None:
    """Note what was read.

    Args:
        note: the file that holds it.
        looks: of every file, from before it was read.
        digests: SHA-256 of what was read; a file without one could not be.
    """
    files = {str(path): {**look, "sha256": digests.get(path, "")} for path, look in looks.items()}
    write_json(note, {"files": files})


def replaced_sources(note: Path) -> list[Path]:
    """The noted files that hold something else by now; one that was only touched is noted anew."""
    if not note.exists():
        return []
    files, found, touched = read_json(note)["files"], [], False
    for name, noted in files.items():
        path = Path(name)
        try:
            look = _look(path)
            if look.items() <= noted.items():
                continue
            digest = file_digest(path)
        except OSError:  # Snakemake tells of what is not there, and the stage of the rest
            continue
        if digest == noted["sha256"]:
            noted.update(look)
            touched = True
        else:
            found.append(path)
    if touched:
        with suppress(OSError):  # of another's results, which are read again
            write_json(note, {"files": files})
    return found


def _look(path: Path) -> FileStats:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
