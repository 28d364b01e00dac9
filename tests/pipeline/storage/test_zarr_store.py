"""Stores appear whole or not at all, open with plain zarr, and notice damage."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import zarr

from pipeline.errors import PipelineError
from pipeline.storage import zarr_store
from pipeline.storage.zarr_faults import DIGEST_OF_ATTRIBUTES, UntouchableError

RESIDUAL = np.linspace(0, 1, 2 * 3 * 8 * 9, dtype=np.float16).reshape(2, 3, 8, 9)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "a.zarr"
    zarr_store.write_store(
        path, {"residual": RESIDUAL}, {"fingerprint": "f", "case": "a"}, slice_axis=1
    )
    return path


def test_plain_zarr_shows_values_chunks_and_attributes(store):
    group = zarr.open(store, mode="r")
    array = group["residual"]
    np.testing.assert_array_equal(array[:], RESIDUAL)
    assert array.chunks == (2, 1, 8, 9)
    assert array.shards == (2, 3, 8, 9)
    assert np.isnan(array.fill_value)
    assert group.attrs["case"] == "a"
    assert sorted(store.parent.iterdir()) == [store]


def test_writing_again_replaces_the_whole_store(store):
    zarr_store.write_store(store, {"residual": RESIDUAL[:, :2]}, {"fingerprint": "g"}, slice_axis=1)
    assert zarr_store.read_array(zarr_store.open_store(store), "residual").shape == (2, 2, 8, 9)
    assert zarr_store.is_current(store, "g")
    assert not zarr_store.is_current(store, "f")
    assert sorted(store.parent.iterdir()) == [store]


def test_version_1_is_read_an_older_one_made_again_and_a_newer_one_never_replaced(store):
    def of_version(version):
        content = json.loads((store / "zarr.json").read_text("utf-8"))
        content["attributes"]["store_version"] = version
        content["attributes"].pop(DIGEST_OF_ATTRIBUTES, None)  # which version 1 lacks
        (store / "zarr.json").write_text(json.dumps(content), "utf-8")

    of_version(1)
    zarr_store.verify_store(store)
    assert zarr_store.is_current(store, "f")
    of_version(0)
    with pytest.raises(PipelineError, match="version 0, expected 2; delete it and run again"):
        zarr_store.open_store(store)
    assert not zarr_store.is_current(store, "f")
    of_version(zarr_store.STORE_VERSION + 1)
    with pytest.raises(UntouchableError, match="version 3, expected 2; newer software has written"):
        zarr_store.is_current(store, "f")


def write_forever(path):
    big = np.random.default_rng(0).random((2, 40, 64, 64)).astype(np.float16)
    while True:
        zarr_store.write_store(path, {"residual": big}, {"fingerprint": "f"}, slice_axis=1)


@pytest.mark.parametrize("delay", [0.02, 0.11, 0.23])
def test_a_killed_writer_never_leaves_half_a_store_in_its_place(tmp_path, delay):
    path = tmp_path / "a.zarr"
    writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(path,))
    writer.start()
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    if path.exists():
        zarr_store.verify_store(path)
