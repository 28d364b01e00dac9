"""A lock is held by one process, and ends with it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import locks
from pipeline.orchestration.locks import (
    clear_stopped,
    list_locks,
    lock_dataset,
    lock_environments,
    locked,
)
from pipeline.storage.layout import Layout

CHECKOUT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from pipeline.orchestration.locks import lock_dataset, locked
from pipeline.storage.layout import Layout
layout = Layout(Path(sys.argv[1]), "heart")
held = lock_dataset(layout) if sys.argv[2] == "call" else locked(layout, "train_mae", "m")
with held:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, "heart")


@pytest.fixture
def other(layout):
    """Another process that holds a lock until it is killed or its standard input is closed."""
    started, pipe = [], subprocess.PIPE

    def hold(what):
        command = [sys.executable, "-c", HOLD, str(layout.root), what]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()


def test_what_ends_or_fails_leaves_nothing_to_tell(layout, monkeypatch):
    with locked(layout, "train_mae", "m"):
        (lock,) = list_locks(layout)
        assert (lock.work, lock.alive) == ("train_mae m", True)
        assert f"process {os.getpid()} on " in lock.who
        monkeypatch.setenv("LOCAL_RANK", "1")
        with locked(layout, "train_mae", "m"):
            assert list_locks(layout) == [lock], "processes that train together share a claim"
    assert list_locks(layout) == []
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(ValueError, match="x"), locked(layout, "train_mae", "m"):
        raise ValueError("x")
    assert list_locks(layout) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(1)])
def test_an_interrupted_stage_is_one_line_and_is_told_of_until_it_was_taken_up(layout, stop):
    message = "train_mae m: interrupted; run again"
    with pytest.raises(PipelineError, match=message), locked(layout, "train_mae", "m"):
        raise stop
    (lock,) = list_locks(layout)
    assert (lock.work, lock.alive) == ("train_mae m", False)
    clear_stopped(layout)
    assert list_locks(layout) == []


def test_a_killed_process_holds_nothing(layout, other):
    process = other("stage")
    assert list_locks(layout)[0].alive
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [lock.alive for lock in list_locks(layout)] == [False]
    with locked(layout, "train_mae", "m"):
        assert [lock.alive for lock in list_locks(layout)] == [True]


def test_a_second_process_waits_for_the_first(layout, other, caplog, monkeypatch):
    caplog.set_level("INFO")
    first, info = other("stage"), locks.log.info

    def waiting(*arguments):
        info(*arguments)
        first.stdin.close()

    monkeypatch.setattr(locks.log, "info", waiting)
    with locked(layout, "train_mae", "m"):
        assert first.wait() == 0
    assert f"train_mae m: waiting for process {first.pid} on " in caplog.text


def test_different_results_and_data_sets_are_made_at_once(layout, other):
    other("stage")
    head = Layout(layout.root, "head")
    with locked(layout, "train_mae", "other"), locked(head, "train_mae", "m"):
        assert sum(lock.alive for lock in list_locks(layout)) == 2


def test_a_second_call_on_a_data_set_is_refused(layout, other):
    first = other("call")
    with pytest.raises(PipelineError) as refused:
        lock_dataset(layout)
    place = f"{layout.root / layout.dataset} (process {first.pid} on "
    begin = f"data set heart: another call works on its results in {place}"
    assert str(refused.value).startswith(begin)
    first.kill()
    first.wait()
    lock_dataset(layout).close()


def test_without_locks_one_line_warns(layout, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked(layout, "split"):
        pass
    assert caplog.text.count("no locks on this file system") == 1


def test_a_claim_that_cannot_be_written_is_told_with_its_path(layout, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space") as raised:
        lock_dataset(layout)
    assert raised.value.filename == str(layout.locks / "call.claim")


def test_environments_without_a_lock_are_made_with_a_warning(tmp_path, monkeypatch):
    tmp_path.chmod(0o775)
    lock_environments(tmp_path, print).close()
    assert (tmp_path / "environments.claim").stat().st_mode & 0o777 == 0o664, "a group shares them"

    def no_locks(*_):
        raise OSError(errno.EIO, "Input/output error")

    told: list[str] = []
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert lock_environments(tmp_path, told.append) is None
    (line,) = told
    assert line.startswith(f"{tmp_path}: no lock (Input/output error); ")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert lock_environments(tmp_path / "unwritable", told.append) is None
    assert len(told) == 1
    assert not (tmp_path / "unwritable").exists()
