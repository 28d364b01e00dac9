"""What a network sees of a stored case."""

import pickle

import numpy as np
import pytest
import torch
from torch import distributed as dist

from pipeline.errors import PipelineError
from pipeline.storage.slices import (
    SliceDataset,
    SliceSampler,
    network_slices,
    share_cache,
    slice_loader,
)
from pipeline.storage.zarr_store import write_store
from tests.pipeline.results import SLICES


def dataset(layout, wanted, **more):
    return SliceDataset(
        wanted, {case: layout.case_store(case) for case, _ in wanted}, SLICES, **more
    )


def test_a_slice_is_scaled_resized_and_labelled(ingested):
    item = dataset(ingested, [("a", 2), ("a", 4)])[0]
    assert item["image"].shape == item["label"].shape == (1, 32, 32)
    assert item["image"].dtype == item["label"].dtype == torch.float32
    assert 0 <= item["image"].min() <= item["image"].max() <= 1
    # 7 × 5 source pixels of 30 × 26 become about as large a share of 32 × 32
    assert item["label"].sum() == pytest.approx(35 * 32 * 32 / (30 * 26), rel=0.25)
    inside = item["image"][item["label"] > 0].mean()
    assert float(inside) == pytest.approx(60 / 150, abs=0.05)


def test_the_window_maps_its_ends_to_zero_and_one():
    image = np.array([[[-50, 0, 75, 150, 900]]], np.int16)
    seen = network_slices(image, (0, 150), (1, 5))
    np.testing.assert_allclose(seen.numpy().ravel(), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_the_cache_changes_nothing_and_stays_out_of_pickles(ingested):
    wanted = [("a", z) for z in range(6)]
    plain, cached = dataset(ingested, wanted), dataset(ingested, wanted)
    cached.keep(1_000_000)
    for index in range(6):
        cached[index]
        torch.testing.assert_close(plain[index], cached[index], rtol=0, atol=0)
    assert cached[3] is cached[3]
    assert plain[3] is not plain[3]
    assert len(pickle.dumps(cached)) < 5_000
    assert len(pickle.loads(pickle.dumps(cached))) == 6


def test_slices_are_kept_on_the_device_of_the_cache_and_all_come_from_there(ingested):
    data = dataset(ingested, [("a", z) for z in range(6)])
    size = sum(tensor.nbytes for tensor in data[0].values())
    loader = slice_loader(data, 6, None, 0)
    data.keep(2 * size, "meta")
    (batch,) = loader
    assert all(tensor.is_meta and len(tensor) == 6 for tensor in batch.values())
    assert [data[index] is data[index] for index in range(6)] == [True] * 2 + [False] * 4


@pytest.mark.parametrize(
    # an item has 8192 bytes, and the larger part gets three quarters of a reader's
    ("readers", "kept"),
    [(4, [18, 6]), (16, [5, 1])],
)
def test_the_cache_is_one_for_all_processes_that_read_a_training_s_slices(ingested, readers, kept):
    parts = [
        dataset(ingested, [(case, z) for case in cases for z in range(6)]) for cases in ("abc", "d")
    ]
    share_cache(
        [slice_loader(part, 2, None, 0) for part in parts],
        cache_mb=1,
        readers=readers,
        device="cpu",
    )
    for part in parts:
        for index in range(len(part)):
            part[index]
    assert [sum(part[i] is part[i] for i in range(len(part))) for part in parts] == kept


def test_residual_maps_come_along_and_a_hole_is_refused(ingested):
    path = ingested.residual_store("mrm", "a")
    maps = np.random.default_rng(0).random((2, 6, 32, 32)).astype(np.float16)
    write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    data = dataset(ingested, [("a", 2)], residual_stores={"a": path})
    np.testing.assert_allclose(data[0]["residuals"].numpy(), maps[:, 2], rtol=1e-6)
    maps[1, 2, 4, 4] = np.nan
    write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    with pytest.raises(PipelineError, match=r"case a: residual store .* has a hole at slice 2"):
        dataset(ingested, [("a", 2)], residual_stores={"a": path})[0]


def test_the_sampler_shows_all_lesions_and_a_share_of_the_rest():
    sampler = SliceSampler([0, 1, 2], range(10, 30), 0.25, seed=4)
    first = list(sampler)
    assert len(first) == len(sampler) == 8
    assert {0, 1, 2} <= set(first)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert sorted(SliceSampler([5], [1, 2], 1.0, seed=0)) == [1, 2, 5]


def test_processes_that_train_together_share_an_epoch_out(monkeypatch):
    sampler = SliceSampler([0, 1, 2], range(10, 30), 0.3, seed=4)
    whole = list(sampler)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    parts = []
    for rank in range(4):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler) == 3
    assert {index for part in parts for index in part} == set(whole)


def test_forked_workers_open_stores_of_their_own(ingested):
    data = dataset(ingested, [(case, z) for case in "abc" for z in range(6)])
    expected = [item["image"] for item in map(data.__getitem__, range(len(data)))]
    # this process's stores are open; workers that start anew are tested with zarrs
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for item, image in zip(loader, expected, strict=True):
        torch.testing.assert_close(item["image"], image, rtol=0, atol=0)
