"""Residual maps are the slice's own: what else is computed beside it changes nothing."""

import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grcsf.mae.build import build_masked_model
from pipeline import residual_maps as stage
from pipeline.networks.weights import keep_model
from pipeline.storage.layout import batch_names
from pipeline.storage.zarr_store import open_store, read_array

CASES = "abcde"


class StoppedError(Exception):
    """The job ends here, with whatever it has kept."""


@pytest.fixture
def computed():
    """(case, z) → what the stage has computed since it was told to forget."""
    return {}


@pytest.fixture
def slice_by_slice(ingested, mae, residuals, slices, resources, monkeypatch, computed):
    """Runs the stage; (case, z) → (masks, residuals in float32) of every slice it computed."""
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    keep_model(model, ingested.mae("shared"), "x", {})
    threads = torch.get_num_threads()
    maps_of = stage.multi_ratio_residuals
    queue = stage._queue

    def run(batch="1of1", slices_per_batch=4, stop_after=None, threads=1):
        torch.set_num_threads(threads)
        groups = 0

        def counted(group, *arguments):
            nonlocal groups
            if groups == stop_after:
                raise StoppedError
            groups += 1

            def recorded(models, images, masks, **chosen):
                found = maps_of(models, images, masks, **chosen)
                for index, item in enumerate(group):
                    computed[item.case.name, item.z] = (
                        [one[index].numpy() for one in masks],
                        found[index].numpy(),
                    )
                return found

            monkeypatch.setattr(stage, "multi_ratio_residuals", recorded)
            return queue(group, *arguments)

        monkeypatch.setattr(stage, "_queue", counted)
        used = resources.model_copy(update={"slices_per_batch": slices_per_batch})
        with suppress(StoppedError):
            stage.residual_maps(
                ingested, "mrm", batch, residuals, {"shared": mae}, (1,), slices, 5, used
            )
        return dict(computed)

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def stored(ingested):
    """case → its stored maps."""

    def read():
        return {
            case: read_array(open_store(ingested.residual_store("mrm", case)), "residual")
            for case in CASES
        }

    return read


@pytest.fixture
def forget(ingested, computed):
    """Removes all residual stores."""

    def remove():
        shutil.rmtree(ingested.stage("residual_maps"), ignore_errors=True)
        computed.clear()

    return remove


@pytest.fixture
def whole_run(slice_by_slice, stored):
    """What one job makes in batches of four slices: each slice's, and what is stored."""
    return slice_by_slice(), stored()


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    slices_per_batch=st.integers(1, 31),
    cases_per_job=st.sampled_from([1, 2, 5]),
    order=st.randoms(use_true_random=False),
    stop_after=st.none() | st.integers(0, 6),
    threads=st.sampled_from([1, 2]),
)
def test_neither_batches_nor_jobs_nor_a_crash_change_a_residual(
    whole_run,
    slice_by_slice,
    stored,
    forget,
    slices_per_batch,
    cases_per_job,
    order,
    stop_after,
    threads,
):
    expected, kept = whole_run
    forget()
    jobs = batch_names(len(CASES), cases_per_job)
    order.shuffle(jobs)
    for job in jobs:
        if stop_after is not None:
            slice_by_slice(job, slices_per_batch, stop_after, threads)
        found = slice_by_slice(job, slices_per_batch, None, threads)
    assert set(found) == set(expected)
    for key, (masks, residual) in expected.items():
        for mine, theirs in zip(found[key][0], masks, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert np.abs(found[key][1] - residual).max() <= 1e-5
    for case, maps in stored().items():
        # two float32 values 1e-5 apart are at most a step of float16 apart, which is 5e-4 near 1
        assert np.abs(maps.astype(np.float32) - kept[case].astype(np.float32)).max() <= 5e-4


def test_the_same_batches_give_the_same_bits(slice_by_slice, stored, forget):
    slice_by_slice(slices_per_batch=7)
    first = stored()
    forget()
    slice_by_slice(slices_per_batch=7)
    for case, maps in stored().items():
        np.testing.assert_array_equal(maps, first[case])
