"""Damage of every kind is told when a store is opened or read, and never passes for values."""

import errno
import itertools
import os
import random
import shutil

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage import zarr_store
from pipeline.storage.zarr_faults import UntouchableError
from tests.pipeline.storage.stores import IMAGE, read_whole


def test_every_flipped_bit_and_every_cut_of_a_shard_is_refused_when_it_is_read(store):
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
    for kept in (0.0, 0.01, 0.5, 0.999):
        shard.write_bytes(good[: int(kept * len(good))])
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


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("index", [slice(None), (0, 2)])
def test_no_flipped_digit_of_an_array_s_metadata_ends_in_a_traceback(tmp_path, index):
    path, maps = tmp_path / "a.zarr", np.ones((2, 6, 8, 8), np.float16)
    zarr_store.write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    file, messages = path / "residual" / "zarr.json", []
    good = file.read_bytes()
    for place, bit in itertools.product(range(len(good)), range(4)):
        data = bytearray(good)
        data[place] ^= 1 << bit
        if not (chr(good[place]).isdigit() and chr(data[place]).isdigit()):
            continue
        file.write_bytes(data)
        zarr_store.is_current(path, "f")
        try:
            zarr_store.read_array(zarr_store.open_store(path), "residual", index)
        except PipelineError as error:
            messages.append(str(error))
    assert messages
    assert all(line.startswith(f"store {path}: ") for line in messages)


def test_no_flipped_bit_of_a_store_s_attributes_passes_for_another_value(tmp_path):
    path = tmp_path / "a.zarr"
    made = {"fingerprint": "f" * 64, "quantiles": [0.5, 12.25], "spacing": [3.0, 0.8, 0.8]}
    zarr_store.write_store(path, {"image": IMAGE}, made)
    file = path / "zarr.json"
    good, bits = file.read_bytes(), random.Random(0)
    expected = zarr_store.open_store(path).attrs.asdict()
    messages = []
    for _ in range(300):
        data = bytearray(good)
        data[bits.randrange(len(data))] ^= 1 << bits.randrange(8)
        file.write_bytes(data)
        try:
            attributes = zarr_store.open_store(path).attrs.asdict()
        except PipelineError as error:
            messages.append(str(error))
        else:
            assert attributes == expected
    assert len(messages) > 200
    assert all(line.startswith(f"store {path}: ") for line in messages)


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
