"""What is written appears whole or not at all: beside other jobs, on full and on closed disks."""

import errno
import math
import os
import resource
import shutil
import stat

import numpy as np
import pytest

from pipeline import cli
from pipeline.errors import PipelineError
from pipeline.storage import files, zarr_store
from tests.pipeline.storage.stores import (
    IMAGE,
    NOBODY,
    as_another_user,
    in_child,
    read_whole,
    write,
)


def test_json_is_whole_or_refused(tmp_path):
    path = tmp_path / "a" / "m.json"
    files.write_json(path, {"b": 1, "a": [1, 2]})
    assert files.read_json(path) == {"a": [1, 2], "b": 1}
    path.write_text('{"a": [1,')
    with pytest.raises(PipelineError, match="damaged"):
        files.read_json(path)
    shutil.rmtree(path.parent)
    with pytest.raises(PipelineError, match="not there"):
        files.read_json(path)


def test_entries_come_one_at_a_time_as_they_are_in_the_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.json"
    entries = {"a.b": {"cases": {"y": 1}, "x": [1, 2.5, None]}, "c": {"note": "ä"}, "d": math.nan}
    files.write_json(path, {"cases": entries, "outputs": [], "x": {"z": 1}})
    read = files.json_entries(path, "cases")
    assert str(list(read)) == str(list(entries.items()))
    path.write_text('{"cases": {"a": 1, "b": {"c"')
    read = files.json_entries(path, "cases")
    assert next(read) == ("a", 1)
    with pytest.raises(PipelineError, match="damaged"):
        next(read)
    for text, fault in (('{"cases": []}', "is no dict"), ('{"x": 1}', "has no 'cases'")):
        path.write_text(text)
        with pytest.raises(PipelineError, match=fault):
            list(files.json_entries(path, "cases"))
    with pytest.raises(PipelineError, match="not there"):
        list(files.json_entries(tmp_path / "n.json", "cases"))
    path.write_text('{"x": {"y": 1}, "cases": {}}')
    monkeypatch.delattr(files, "read_json")  # which would have the whole in memory
    assert list(files.json_entries(path, "cases")) == []


@pytest.mark.parametrize("before", [False, True])
def test_a_store_that_appears_while_it_is_written_is_no_fault(tmp_path, monkeypatch, before):
    path, fsync = tmp_path / "a.zarr", os.fsync
    if before:
        write(path, "old")

    def appears(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write(path, "of the other job")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", appears)
    write(path)
    zarr_store.verify_store(path)
    assert zarr_store.is_current(path, "f")
    assert sorted(tmp_path.iterdir()) == [path]


def write_with_limit(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    write(path, "new")


def test_a_disk_that_fills_up_is_told_with_the_path_and_the_old_store_stays(store):
    error = in_child(write_with_limit, store)
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert error.filename == str(store)
    assert "raise it and run again" in cli.MACHINE_FAULTS[error.errno]
    assert sorted(store.parent.iterdir()) == [store]
    assert zarr_store.is_current(store, "f")


def test_a_read_only_folder_is_read_and_its_path_told_when_written(open_folder):
    path = open_folder / "a.zarr"
    write(path)
    for folder in (open_folder, path):
        folder.chmod(0o555)
    np.testing.assert_array_equal(as_another_user(read_whole, path), IMAGE)
    error = as_another_user(write, path, "new")
    assert isinstance(error, PermissionError)
    assert str(error.filename).startswith(str(open_folder))
    assert len(list(open_folder.iterdir())) == 1


def test_a_store_that_is_closed_to_the_user_is_told_apart_from_damage(open_folder):
    write(open_folder / "a.zarr")
    (open_folder / "a.zarr" / "zarr.json").chmod(0o000)
    error = as_another_user(zarr_store.open_store, open_folder / "a.zarr")
    assert "not readable for you" in str(error)


def test_what_cannot_be_emptied_is_moved_and_its_place_taken(open_folder):
    write(open_folder / "a.zarr", "old")
    open_folder.chmod(0o777)
    assert as_another_user(write, open_folder / "a.zarr", "new") is None
    assert zarr_store.is_current(open_folder / "a.zarr", "new")
    (old,) = open_folder.glob(".*.old")
    assert zarr_store.is_current(old, "old") == (os.geteuid() == 0)


def test_new_files_follow_the_umask_and_the_group_of_the_folder(open_folder):
    if os.geteuid() == 0:
        os.chown(open_folder, 0, NOBODY)
    open_folder.chmod(0o2775)

    def write_with_umask():
        os.umask(0o002)
        write(open_folder / "cache" / "a.zarr")

    in_child(write_with_umask)
    written = list(open_folder.rglob("*"))
    assert len(written) > 6
    for path in written:
        assert path.stat().st_mode & stat.S_IWGRP, path
        assert path.stat().st_gid == open_folder.stat().st_gid, path
