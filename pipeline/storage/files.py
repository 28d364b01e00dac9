"""Files and folders that appear whole or not at all, and the JSON that stages leave in them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, one_line
from pipeline.settings.paths import file_refusal

log = logging.getLogger(__name__)
TEMPORARY = ".tmp"
# of keys that results and notes have
KINDS: dict[str, type] = {"cases": dict, "outputs": list, "unlabelled": list}
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# ENOTDIR: a folder finds a link in its place, or a file
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def _refuse_special(path: Path) -> None:
    """Raise an OSError where opening would wait for ever, or reading never end."""
    if (refusal := file_refusal(path)).startswith("found "):
        raise OSError(errno.EINVAL, refusal, str(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file's bytes."""
    _refuse_special(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest_there(path: Path) -> Path:
    """The path if it exists, even as a dangling link, else its nearest existing parent."""
    places = (path.absolute(), *path.absolute().parents)
    return next(filter(os.path.lexists, places))  # methods of Path raise behind a closed folder


def read_regular(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe or device might never end.
    """
    _refuse_special(path)
    return path.read_bytes()


def make_output(folder: Path) -> None:
    """Make the folder that a command was told to write into, and those above it.

    Raises:
        PipelineError: it cannot be made, as below a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is where a folder is needed"
        if error.errno not in OCCUPIED:
            reason = str(error.strerror or error)
        raise PipelineError(f"--output: {folder}: {reason}; choose another --output") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A writer's own path beside `path` that takes its place when the block ends without an error.

    Raises:
        OSError: the machine's fault, with the path that was to be written.
    """
    # jobs on several nodes may share the folder, and their process numbers
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        _take_place(temporary, path)
    except OSError as error:
        if error.filename is None:  # as of a write to a full disk
            error.filename = str(path)
        raise
    finally:
        remove(temporary)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename over `path`; what no rename replaces makes room first, and may be there again."""
    moved: list[Path] = []
    while True:
        try:
            temporary.replace(path)
            break
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
        old = temporary.with_suffix(f".{len(moved)}.old")
        with suppress(FileNotFoundError):
            path.rename(old)
            moved.append(old)
    for old in moved:
        # a folder of another user's may be moved, and not emptied
        with suppress(PermissionError):
            remove(old)


def _flush(path: Path) -> None:
    for file in [] if path.is_symlink() else [path, *path.rglob("*")]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a small file, text as UTF-8, that a reader sees whole or not at all."""
    # a file's name may hold bytes that are no text
    encoded = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file."""
    write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


class Content(dict[str, Any]):
    """What a JSON file of a stage holds; a key that it should have, and has not, is its fault."""

    path: Path

    def __missing__(self, key: str) -> Any:
        """Raises PipelineError, for every key that is asked for in brackets and not there."""
        raise PipelineError(f"{self.path}: damaged, it has no {key!r}; delete it and run again")


def read_json(path: Path) -> Content:
    """The content of a JSON file written by a stage.

    Raises:
        PipelineError: the file is missing or damaged; or is a folder, a pipe or a device.
    """
    if not os.path.lexists(path):
        raise PipelineError(f"{path}: not there; run the stage that writes it first")
    if refusal := file_refusal(path):
        raise PipelineError(f"{path}: {refusal}; delete it and run again")
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path}: not there; run the stage that writes it first") from None
    except (OSError, ValueError, RecursionError) as error:
        fault = f"{path}: damaged ({one_line(error)}); delete it and run again"
        raise PipelineError(fault) from error
    if not isinstance(content, dict):
        fault = f"{path}: damaged, found {type(content).__name__}, expected a JSON object"
        raise PipelineError(f"{fault}; delete it and run again")
    for key, kind in KINDS.items():
        if not isinstance(content.get(key, kind()), kind):
            fault = f"{path}: damaged, its {key!r} is no {kind.__name__}"
            raise PipelineError(f"{fault}; delete it and run again")
    kept = Content(content)
    kept.path = path
    return kept


def json_entries(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """The entries of an object in a JSON file, one at a time: there may be a hundred thousand.

    Raises:
        PipelineError: as of `read_json`, or there is no such object; some may have come by then.
    """
    import ijson  # here: most commands do without

    given = 0
    with suppress(OSError, ValueError, ijson.JSONError):
        _refuse_special(path)
        with path.open("rb") as file:
            for entry in ijson.kvitems(file, key, use_float=True):
                given += 1
                yield entry
            if given:
                return
            file.seek(0)
            if next(ijson.items(file, key), None) == {}:
                return
    # whatever was wrong is told by reading it whole, which also knows NaN
    yield from islice(read_json(path)[key].items(), given, None)


def remembered(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file that only remembers; None where there is none that can be used.

    A damaged one is told in the log. Whoever remembers something writes it anew.
    """
    if not os.path.lexists(path):
        return None
    try:
        return dict(read_json(path))
    except PipelineError as error:
        log.warning("%s; it only remembers, and is made anew", str(error).partition("; delete")[0])
        return None


def fingerprint(parts: Mapping[str, Any]) -> str:
    """SHA-256 over plain JSON values, independent of the order of keys."""
    content = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()
