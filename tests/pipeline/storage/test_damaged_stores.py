"""What can befall a store: two writers, full and read-only disks, and damage of every kind."""

import errno
import itertools
import multiprocessing
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.errors import PipelineError
from pipeline.storage import files, zarr_store
from pipeline.storage.zarr_faults import UntouchableError

IMAGE = np.random.default_rng(0).integers(-1000, 1000, (6, 30, 26)).astype(np.int16)
LABEL = (IMAGE > 900).astype(np.uint8)
NOBODY = 65534
FORK = multiprocessing.get_context("fork")


def write(path, fingerprint="f"):
    zarr_store.write_store(path, {"image": IMAGE, "label": LABEL}, {"fingerprint": fingerprint})


@pytest.fixture
def store(tmp_path):
    write(tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


@pytest.fixture
def open_folder():
    """A folder below which another user can get, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="grcsf-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def in_child(function, *arguments):
    """What `function` returned or raised in a process of its own, which may give up its rights."""
    receive, send = FORK.Pipe(duplex=False)

    def run():
        try:
            send.send(function(*arguments))
        except Exception as error:
            send.send(error)

    child = FORK.Process(target=run)
    child.start()
    result = receive.recv()
    child.join()
    return result


def read_whole(path):
    return zarr_store.read_array(zarr_store.open_store(path), "image")


def test_every_flipped_bit_of_a_shard_is_refused_when_its_values_are_read(store):
    shard = store / "image" / "c" / "0" / "0" / "0"
    good = shard.read_bytes()
    bits = random.Random(0)
    for _ in range(60):
        data = bytearray(good)
        data[bits.randrange(len(data))] ^= 1 << bits.randrange(8)
        shard.write_bytes(data)
        with pytest.raises(PipelineError, match=f"store {store}: .*delete the store and run again"):
            read_whole(store)
        with pytest.raises(PipelineError):
            zarr_store.verify_store(store)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_shard_is_refused(store, kept):
    shard = store / "image" / "c" / "0" / "0" / "0"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(PipelineError, match=r"delete (the store|it) and run again"):
        read_whole(store)


@pytest.mark.parametrize("name", ["zarr.json", "image/zarr.json", "label/zarr.json"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_truncated_metadata_is_refused_and_the_store_made_again(store, name, kept):
    text = (store / name).read_text("utf-8")
    (store / name).write_text(text[: int(kept * len(text))], "utf-8")
    with pytest.raises(PipelineError, match="delete it and run again"):
        zarr_store.open_store(store)
    assert not zarr_store.is_current(store, "f")


def flip_each_digit(path):
    """The file with each bit of each of its digits flipped that leaves it a digit."""
    good = path.read_bytes()
    digits = [place for place, byte in enumerate(good) if chr(byte).isdigit()]
    for place, bit in itertools.product(digits, range(4)):
        data = bytearray(good)
        data[place] ^= 1 << bit
        if not chr(data[place]).isdigit():
            continue
        path.write_bytes(data)
        yield
    path.write_bytes(good)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("index", [slice(None), (0, 2)])
def test_no_flipped_digit_of_an_array_s_metadata_ends_in_a_traceback(tmp_path, index):
    path, maps = tmp_path / "a.zarr", np.ones((2, 6, 8, 8), np.float16)
    zarr_store.write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    told = []
    for _ in flip_each_digit(path / "residual" / "zarr.json"):
        zarr_store.is_current(path, "f")
        try:
            zarr_store.read_array(zarr_store.open_store(path), "residual", index)
        except PipelineError as error:
            told.append(str(error))
    assert told
    assert all(line.startswith(f"store {path}: ") for line in told)


def test_no_flipped_bit_of_a_store_s_attributes_passes_for_another_value(tmp_path):
    path = tmp_path / "a.zarr"
    made = {"fingerprint": "f" * 64, "quantiles": [0.5, 12.25], "spacing": [3.0, 0.8, 0.8]}
    zarr_store.write_store(path, {"image": IMAGE}, made)
    file = path / "zarr.json"
    good, bits = file.read_bytes(), random.Random(0)
    expected = zarr_store.open_store(path).attrs.asdict()
    told = []
    for _ in range(300):
        data = bytearray(good)
        data[bits.randrange(len(data))] ^= 1 << bits.randrange(8)
        file.write_bytes(data)
        try:
            found = zarr_store.open_store(path).attrs.asdict()
        except PipelineError as error:
            told.append(str(error))
        else:
            assert found == expected
    assert len(told) > 200
    assert all(line.startswith(f"store {path}: ") for line in told)


@pytest.mark.parametrize("index", [slice(None), slice(1, 2)])
def test_a_shard_that_goes_after_its_store_was_opened_is_never_read_as_zeros(store, index):
    opened = zarr_store.open_store(store)
    array = zarr_store.stored_array(opened, "image")
    assert zarr_store.read_part(array, index).any()
    (store / "image/c/0/0/0").unlink()
    with pytest.raises(PipelineError, match=f"store {store}: image has lost its data"):
        zarr_store.read_part(array, index)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_does_not_answer_is_no_damage(store, monkeypatch, fault):
    def silent(*_, **__):
        raise OSError(fault, os.strerror(fault), str(store))

    monkeypatch.setattr(zarr_store.zarr, "open_group", silent)
    with pytest.raises(UntouchableError, match=f"{os.strerror(fault)}.; run again when it can"):
        zarr_store.is_current(store, "f")


def test_links_that_lead_to_each_other_are_refused_in_a_line(tmp_path):
    path = tmp_path / "a.zarr"
    path.symlink_to(tmp_path / "b.zarr")
    (tmp_path / "b.zarr").symlink_to(path)
    with pytest.raises(PipelineError, match=r"store .*\.zarr: "):
        zarr_store.open_store(path)
    assert not zarr_store.is_current(path, "f")


@pytest.mark.filterwarnings("ignore:Object at")
@pytest.mark.parametrize(
    "lost", ["label", "label/c", "label/c/0/0/0", "label/zarr.json", "zarr.json"]
)
def test_what_is_lost_never_reads_as_fill_values(store, lost):
    gone = store / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    if lost == "label/c/0/0/0":  # a foreign file in its place is no shard
        gone.with_name(".DS_Store").write_bytes(b"x")
    with pytest.raises(PipelineError, match=r"lost its data|not there"):
        zarr_store.open_store(store)
    assert not zarr_store.is_current(store, "f")


def test_values_that_are_no_numbers_are_found(tmp_path):
    maps = np.zeros((1, 2, 8, 8), np.float16)
    maps[0, 1, 3, 3] = np.inf
    zarr_store.write_store(
        tmp_path / "a.zarr", {"residual": maps}, {"fingerprint": "f"}, slice_axis=1
    )
    with pytest.raises(PipelineError, match="residual holds values that are no finite numbers"):
        zarr_store.verify_store(tmp_path / "a.zarr")


def _write_often(path, barrier):
    barrier.wait()
    for _ in range(25):
        write(path)


def test_two_jobs_that_make_the_same_store_end_with_one_good_store(tmp_path):
    path, barrier = tmp_path / "a.zarr", FORK.Barrier(2)
    writers = [FORK.Process(target=_write_often, args=(path, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    zarr_store.verify_store(path)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [False, True])
def test_a_store_that_appears_while_it_is_written_is_no_fault(tmp_path, monkeypatch, before):
    path = tmp_path / "a.zarr"
    if before:
        write(path, "old")
    flush = files._flush

    def appears(temporary):
        monkeypatch.setattr(files, "_flush", flush)
        write(path, "of the other job")
        flush(temporary)

    monkeypatch.setattr(files, "_flush", appears)
    write(path)
    zarr_store.verify_store(path)
    assert zarr_store.is_current(path, "f")
    assert sorted(tmp_path.iterdir()) == [path]


def _write_with_limit(path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    write(path, "new")


def test_a_disk_that_fills_up_is_told_with_the_path_and_the_old_store_stays(store):
    error = in_child(_write_with_limit, store)
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert error.filename == str(store)
    assert "raise it and run again" in cli.MACHINE_FAULTS[error.errno]
    assert sorted(store.parent.iterdir()) == [store]
    assert zarr_store.is_current(store, "f")


def test_a_full_file_system_is_told_with_the_path(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        write(disk / "a.zarr")
        (disk / "rest").write_bytes(bytes(20_000))
        with pytest.raises(OSError, match="No space left") as told:
            write(disk / "b.zarr")
        assert str(told.value.filename).startswith(str(disk))
        zarr_store.verify_store(disk / "a.zarr")
        assert not list(disk.glob(f".*{files.TEMPORARY}"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _as_another(function, *arguments):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return function(*arguments)


def test_a_read_only_folder_is_read_and_its_path_told_when_written(open_folder):
    write(open_folder / "a.zarr")
    for folder in (open_folder, open_folder / "a.zarr"):
        folder.chmod(0o555)
    try:
        np.testing.assert_array_equal(
            in_child(_as_another, read_whole, open_folder / "a.zarr"), IMAGE
        )
        error = in_child(_as_another, write, open_folder / "a.zarr", "new")
        assert isinstance(error, PermissionError)
        assert str(error.filename).startswith(str(open_folder))
        assert len(list(open_folder.iterdir())) == 1
    finally:
        for folder in (open_folder, open_folder / "a.zarr"):
            folder.chmod(0o755)


def test_a_store_that_is_closed_to_the_user_is_told_apart_from_damage(open_folder):
    write(open_folder / "a.zarr")
    (open_folder / "a.zarr" / "zarr.json").chmod(0o000)
    error = in_child(_as_another, zarr_store.open_store, open_folder / "a.zarr")
    assert "not readable for you" in str(error)


def test_what_cannot_be_emptied_is_moved_and_its_place_taken(open_folder):
    write(open_folder / "a.zarr", "old")
    open_folder.chmod(0o777)
    assert in_child(_as_another, write, open_folder / "a.zarr", "new") is None
    assert zarr_store.is_current(open_folder / "a.zarr", "new")
    (old,) = open_folder.glob(".*.old")
    assert zarr_store.is_current(old, "old") == (os.geteuid() == 0)


def _write_with_umask(path):
    os.umask(0o002)
    write(path)


def test_new_files_follow_the_umask_and_the_group_of_the_folder(open_folder):
    if os.geteuid() == 0:
        os.chown(open_folder, 0, NOBODY)
    open_folder.chmod(0o2775)
    in_child(_write_with_umask, open_folder / "cache" / "a.zarr")
    made = list(open_folder.rglob("*"))
    assert len(made) > 6
    for path in made:
        found = path.stat()
        assert found.st_mode & stat.S_IWGRP, path
        assert found.st_gid == open_folder.stat().st_gid, path


def test_the_command_names_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    code = (
        "import sys; from pathlib import Path; from pipeline import cli\n"
        "from pipeline.storage import files\n"
        "def fail(): files.write_json(Path(sys.argv[1]) / 'a.json', {})\n"
        "cli.app = fail; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'file'}")
    assert len(done.stderr.splitlines()) == 1
