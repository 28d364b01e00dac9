"""What a network sees of a stored case."""

import pickle

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.settings import Slices
from pipeline.storage.intensity import intensity_range
from pipeline.storage.slices import (
    SliceDataset,
    SliceSampler,
    network_slices,
    share_cache,
    slice_loader,
)
from pipeline.storage.zarr_store import open_store, write_store


def dataset(layout, slices, wanted, **more):
    return SliceDataset(
        wanted, {case: layout.case_store(case) for case, _ in wanted}, slices, **more
    )


def test_a_slice_is_scaled_resized_and_labelled(ingested, slices):
    item = dataset(ingested, slices, [("a", 2), ("a", 4)])[0]
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


def test_percentiles_come_from_the_case(ingested):
    attributes = open_store(ingested.case_store("a")).attrs
    low, high = intensity_range(attributes, Slices(percentiles=(5, 95)))
    assert (low, high) == (attributes["quantiles"][5], attributes["quantiles"][7])


def test_the_cache_changes_nothing_and_stays_out_of_pickles(ingested, slices):
    wanted = [("a", z) for z in range(6)]
    plain, cached = dataset(ingested, slices, wanted), dataset(ingested, slices, wanted)
    cached.keep(1_000_000)
    for index in range(6):
        cached[index]
        torch.testing.assert_close(plain[index], cached[index], rtol=0, atol=0)
    assert cached[3] is cached[3]
    assert plain[3] is not plain[3]
    assert len(pickle.dumps(cached)) < 5_000
    assert len(pickle.loads(pickle.dumps(cached))) == 6


def test_the_cache_is_one_for_all_processes_that_read_a_training_s_slices(ingested, slices):
    parts = [
        dataset(ingested, slices, [(case, z) for case in cases for z in range(6)])
        for cases in ("abc", "d")
    ]
    share_cache([slice_loader(one, 2, None, 0) for one in parts], cache_mb=1, readers=4)
    item = parts[0][0]
    size = sum(tensor.nbytes for tensor in item.values())
    assert size == 8192
    for part in parts:
        for index in range(len(part)):
            part[index]
    kept = [sum(part[i] is part[i] for i in range(len(part))) for part in parts]
    assert kept == [18, 6], "a quarter of a megabyte holds 30 slices"
    for part in parts:
        part.keep(0)
    parts = [dataset(ingested, slices, part.slices) for part in parts]
    share_cache([slice_loader(one, 2, None, 0) for one in parts], cache_mb=1, readers=16)
    for part in parts:
        for index in range(len(part)):
            part[index]
    kept = [sum(part[i] is part[i] for i in range(len(part))) for part in parts]
    assert kept == [5, 1], "62,500 bytes, of which three quarters are for the larger part"


def test_residual_maps_come_along_and_a_hole_is_refused(ingested, slices):
    path = ingested.residual_store("mrm", "a")
    maps = np.random.default_rng(0).random((2, 6, 32, 32)).astype(np.float16)
    write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    data = dataset(ingested, slices, [("a", 2)], residual_stores={"a": path})
    np.testing.assert_allclose(data[0]["residuals"].numpy(), maps[:, 2], rtol=1e-6)
    maps[1, 2, 4, 4] = np.nan
    write_store(path, {"residual": maps}, {"fingerprint": "f"}, slice_axis=1)
    with pytest.raises(PipelineError, match=r"case a: residual store .* has a hole at slice 2"):
        dataset(ingested, slices, [("a", 2)], residual_stores={"a": path})[0]


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
    parts = []
    for rank in range(4):
        monkeypatch.setattr("pipeline.storage.slices._share", lambda rank=rank: (rank, 4))
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler) == 3
    assert {index for part in parts for index in part} == set(whole)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_open_stores_of_their_own(ingested, slices, start):
    data = dataset(ingested, slices, [(case, z) for case in "abc" for z in range(6)])
    expected = [
        data[index]["image"] for index in range(len(data))
    ]  # this process's stores are open
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=60
    )
    for item, image in zip(loader, expected, strict=True):
        torch.testing.assert_close(item["image"], image, rtol=0, atol=0)
