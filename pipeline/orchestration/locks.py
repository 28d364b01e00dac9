"""Who works on a data set: one call at a time, and one process at a time on each result.

A claim is a small file below `results/<dataset>/running/`, locked (flock) for as long as its
process lives, however that ends: no claim is ever stale. A file that nobody holds and that still
names a process tells what was stopped half-way.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from pipeline.errors import PipelineError
from pipeline.networks.nodes import is_one_of_several
from pipeline.storage.layout import Layout

log = logging.getLogger(__name__)
SUFFIX = ".claim"
CALL = "call"  # the claim of a whole call of snakemake
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
LOOKS = 20  # a call that plans looks at every claim, for an instant
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Lock:
    """What a process works on, or worked on when it was stopped.

    Attributes:
        dataset: of which data set.
        work: its stage and names, or `call`.
        who: its process and machine, and when it began.
        alive: whether it still runs.
    """

    dataset: str
    work: str
    who: str
    alive: bool


@contextmanager
def locked(layout: Layout, stage: str, *names: object) -> Iterator[None]:
    """Make one result while no other process makes the same; wait for one that does.

    A job may outlive the snakemake that started it, or be started again on another node.

    Raises:
        PipelineError: the process was told to stop.
    """
    if is_one_of_several():  # the process that has started it holds the claim
        yield
        return
    work = " ".join([stage, *map(str, names)])
    with _opened(layout, work) as file:
        if not _lock(file):
            log.info("%s: waiting for %s, which makes it already", work, _who(file))
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        try:
            yield
        # Lightning ends with SystemExit when it was interrupted
        except (KeyboardInterrupt, SystemExit):
            raise PipelineError(
                f"{work}: interrupted; run again, finished cases and epochs are kept"
            ) from None
        except BaseException:
            _sign_off(file)
            raise
        _sign_off(file)


def lock_dataset(layout: Layout) -> IO[str]:
    """Claim a data set for this call until `unlock_dataset` or the end of the process.

    Raises:
        PipelineError: another call works on it.
    """
    file = _opened(layout, CALL)
    if _lock(file):
        _sign(file)
        return file
    who = _who(file)
    file.close()
    raise PipelineError(
        f"data set {layout.dataset}: another call works on its results in "
        f"{layout.root / layout.dataset} ({who}); wait for it, stop it, or choose another `results`"
    )


def unlock_dataset(file: IO[str]) -> None:
    """Give back what `lock_dataset` returned: the call has come to its end."""
    _sign_off(file)
    file.close()


def list_locks(layout: Layout) -> list[Lock]:
    """All that runs on a data set, and all that was stopped half-way."""
    found = []
    for path in sorted(layout.locks.glob(f"*{SUFFIX}")):
        # reading takes no part in what others claim, and needs no leave to write
        with path.open(encoding="utf-8") as file:
            alive = not _lock(file, fcntl.LOCK_SH)
            who = _who(file)
        if who or alive:
            found.append(Lock(layout.dataset, path.stem, who, alive))
    return found


def clear_stopped(layout: Layout, works: Collection[str] | None = None) -> None:
    """Empty the claims of what was stopped, once it is made.

    Args:
        layout: of the data set.
        works: what is made; None forgets all.
    """
    for one in list_locks(layout):
        if not one.alive and (works is None or one.work in works):
            with _opened(layout, one.work) as file:
                if _lock(file):
                    _sign_off(file)


def _opened(layout: Layout, work: str) -> IO[str]:
    path = layout.locks / f"{work}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def _lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Whether the claim could be had; it always can where the file system knows no locks."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                log.warning("%s: no locks on this file system; start no second call", file.name)
                return True
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return True
        if kind == fcntl.LOCK_SH:
            break
        time.sleep(PAUSE_SECONDS)
    return False


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    signature = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    try:
        os.write(file.fileno(), json.dumps(signature).encode())
    except OSError as error:  # of a full disk, it names no file
        error.filename = file.name
        raise


def _sign_off(file: IO[str]) -> None:
    file.truncate(0)


def _who(file: IO[str]) -> str:
    """The process that a claim names, or "" where it names none."""
    file.seek(0)
    text = file.read()
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']}, since {found['started']}"
    except (ValueError, KeyError):
        return "a process that has not told its name" if text else ""
