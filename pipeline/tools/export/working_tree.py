"""The results tree of a prediction: hidden beside its masks, held while its process lives.

Nothing of an image lies in the shared temporary folder, and what a killed call has left goes when
the next one writes to the same output.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.storage.files import TEMPORARY

PREFIX = ".grcsf-predict-"


@contextmanager
def working_tree(output: Path) -> Iterator[Path]:
    """A new folder in `output` that is removed at the end; those of killed calls are removed first.

    Raises:
        OSError: the machine's fault.
    """
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(f"{PREFIX}*{TEMPORARY}"):
        _remove_unless_held(left)
    held = None
    while held is None:  # another call may take a folder that is not held yet for one that was left
        folder = output / f"{PREFIX}{uuid.uuid4().hex[:12]}{TEMPORARY}"
        folder.mkdir()
        held = _hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _hold(folder: Path) -> int | None:
    """An open and locked folder; None if it is gone."""
    held = None
    with suppress(FileNotFoundError):
        held = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # on a file system without locks, nothing left is removed either
            fcntl.flock(held, fcntl.LOCK_EX)
    if held is not None and not folder.exists():
        os.close(held)
        return None
    return held


def _remove_unless_held(folder: Path) -> None:
    if folder.is_symlink():
        return
    with suppress(OSError):  # held, another user's, or just gone
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(held)
