"""Who works on a data set: one call at a time, and one process at a time on each result.

A lock is a small file `results/<dataset>/running/….claim`, held (flock) while its process lives, so
none is ever stale. One that nobody holds, but that names a process, was stopped half-way. One more
lies beside the conda environments, which one call at a time makes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import PipelineError
from pipeline.networks.nodes import is_one_of_several
from pipeline.storage.files import nearest_there, remove
from pipeline.storage.layout import Layout, work_name

log = logging.getLogger(__name__)
SUFFIX = ".claim"
CALL = "call"  # the lock of a whole call of snakemake
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
LOOKS = 20  # a call that plans holds every lock for an instant
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Lock:
    """A lock: what a process works on, or worked on when it was stopped."""

    dataset: str
    work: str  # its stage and names, or `call`
    who: str  # its process and machine, and when it began
    alive: bool  # whether it still runs


@contextmanager
def locked(layout: Layout, stage: str, *names: object) -> Iterator[None]:
    """Make one result; wait for a job on it that has outlived its call, or runs on another node.

    Raises:
        PipelineError: the process was told to stop.
    """
    if is_one_of_several():  # the process that has started it holds the lock
        yield
        return
    work = work_name(stage, *names)
    with _open_lock(layout, work) as file:
        if not _lock(file):
            log.info("%s: waiting for %s, which makes it already", work, _who(file))
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        try:
            yield
        # Lightning ends with SystemExit when it was interrupted
        except (KeyboardInterrupt, SystemExit):
            fault = f"{work}: interrupted; run again, finished cases and epochs are kept"
            raise PipelineError(fault) from None
        except BaseException:
            file.truncate(0)
            raise
        file.truncate(0)


def lock_dataset(layout: Layout) -> IO[str]:
    """Lock a data set for this call until the file is closed, or the process ends.

    Raises:
        PipelineError: another call works on it.
    """
    file = _open_lock(layout, CALL)
    if _lock(file):
        _sign(file)
        return file
    who = _who(file)
    file.close()
    raise PipelineError(
        f"data set {layout.dataset}: another call works on its results in "
        f"{layout.root / layout.dataset} ({who}); wait for it, stop it, or choose another `results`"
    )


def lock_environments(folder: Path, tell: Callable[[str], None]) -> IO[str] | None:
    """Lock a folder of conda environments until `release`, or until the process ends.

    Waits while another call makes some there, and tells whom it waits for. None where nothing can
    be written, so that this call makes none, and where no lock can be had, which it tells.

    Raises:
        PipelineError: the process was told to stop while it waited.
    """
    if not os.access(nearest_there(folder), os.W_OK):
        return None
    try:
        file = _open(folder / f"environments{SUFFIX}")
        with suppress(OSError):  # who may make environments in a shared folder may lock them
            Path(file.name).chmod(folder.stat().st_mode & 0o666)
        if not _lock(file):
            who = _who(file) or "another call"
            tell(f"{folder}: waiting for {who}, which may make conda environments there")
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
    except OSError as error:
        tell(f"{folder}: no lock ({error.strerror}); let no second call make environments there")
        return None
    except KeyboardInterrupt:
        raise PipelineError(f"{folder}: interrupted while it waited; nothing was made") from None
    return file


def release(file: IO[str]) -> None:
    """Give a lock back; what it was held for is done."""
    with file:
        file.truncate(0)


def list_locks(layout: Layout) -> list[Lock]:
    """All that runs on a data set, and all that was stopped half-way."""
    locks = []
    for path in sorted(layout.locks.glob(f"*{SUFFIX}")):
        if not path.is_file():  # something else took its place
            continue
        # a shared lock keeps no reader out, and needs no right to write
        with path.open(encoding="utf-8", errors="replace") as file:
            alive, who = not _lock(file, fcntl.LOCK_SH), _who(file)
        if who or alive:
            locks.append(Lock(layout.dataset, path.stem, who, alive))
    return locks


def clear_stopped(layout: Layout, works: Collection[str] | None = None) -> None:
    """Empty the locks of stopped work, once it is made; `works` is what is made, None for all."""
    for lock in list_locks(layout):
        if not lock.alive and (works is None or lock.work in works):
            with _open_lock(layout, lock.work) as file:
                if _lock(file):
                    file.truncate(0)


def _open_lock(layout: Layout, work: str) -> IO[str]:
    return _open(layout.locks / f"{work}{SUFFIX}")


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not path.is_file():
        log.warning("%s: no file, though it only remembers who works here; made anew", path)
        remove(path)
    return path.open("a+", encoding="utf-8", errors="replace")


def _lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Try to lock a file, and return whether it worked; it does on file systems without locks."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                log.warning("%s: no locks on this file system; start no second call", file.name)
                return True
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
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


def _who(file: IO[str]) -> str:
    """The process that a lock's file names, or "" where it names none."""
    file.seek(0)
    text = file.read()
    try:
        signature = json.loads(text)
        return f"process {signature['pid']} on {signature['host']}, since {signature['started']}"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "a process that has not told its name" if text else ""
