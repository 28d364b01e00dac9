"""Residual maps are the slice's own: what else is computed beside it changes nothing."""

from contextlib import suppress

import numpy as np
import pytest
import torch

from pipeline import residual_maps as stage
from pipeline.storage.batches import batch_names
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES, copy_results

CASES = "abcde"


class StoppedError(Exception):
    """The job ends here, with whatever it has kept."""


class Runs:
    """Runs the stage, and keeps what it computes of each slice."""

    def __init__(self, layout):
        self.layout = layout
        self.computed = {}  # the slice's image → (masks, residuals in float32)

    def run(self, job="1of1", slices_per_batch=4, stop_after=None, threads=1):
        original, batches = stage.multi_ratio_residuals, 0

        def recorded(models, images, masks, **options):
            nonlocal batches
            if batches == stop_after:
                raise StoppedError
            batches += 1
            residuals = original(models, images, masks, **options)
            for index, image in enumerate(images):
                masks_of_slice = [drawn[index].numpy() for drawn in masks]
                self.computed[image.numpy().tobytes()] = masks_of_slice, residuals[index].numpy()
            return residuals

        settings = RESIDUALS, {"shared": MAE}, (1,), SLICES, 5
        used = RESOURCES.model_copy(update={"slices_per_batch": slices_per_batch})
        torch.set_num_threads(threads)
        with pytest.MonkeyPatch.context() as patch, suppress(StoppedError):
            patch.setattr(stage, "multi_ratio_residuals", recorded)
            stage.residual_maps(self.layout, "mrm", job, *settings, used)
        torch.set_num_threads(1)

    def stored(self):
        stores = {case: open_store(self.layout.residual_store("mrm", case)) for case in CASES}
        return {case: read_array(store, "residual") for case, store in stores.items()}


@pytest.fixture(scope="module")
def expected(trained_once, tmp_path_factory):
    """What one job makes of all slices, in batches of four, and what it stores."""
    runs = Runs(copy_results(trained_once, tmp_path_factory.mktemp("whole")))
    runs.run()
    return runs.computed, runs.stored()


@pytest.fixture
def runs(with_mae, expected):
    """All maps have to be made again."""
    runs = Runs(with_mae)
    runs.expected = expected
    return runs


@pytest.mark.parametrize(
    ("slices_per_batch", "cases_per_job", "stop_after", "threads"),
    [(1, 5, None, 1), (31, 5, None, 2), (7, 2, 1, 1), (3, 5, 4, 1), (4, 1, 1, 1)],
)
def test_neither_batches_nor_jobs_nor_a_crash_change_a_residual(
    runs, slices_per_batch, cases_per_job, stop_after, threads
):
    computed, stored = runs.expected
    for job in reversed(batch_names(len(CASES), cases_per_job)):
        if stop_after is not None:
            runs.run(job, slices_per_batch, stop_after, threads)
        runs.run(job, slices_per_batch, None, threads)
    assert set(runs.computed) == set(computed)
    for image, (masks, residual) in computed.items():
        for drawn, drawn_before in zip(runs.computed[image][0], masks, strict=True):
            np.testing.assert_array_equal(drawn, drawn_before)
        assert np.abs(runs.computed[image][1] - residual).max() <= 1e-5
    for case, maps in runs.stored().items():
        # two float32 values 1e-5 apart are at most a step of float16 apart, which is 5e-4 near 1
        assert np.abs(maps.astype(np.float32) - stored[case].astype(np.float32)).max() <= 5e-4


def test_the_same_batches_give_the_same_bits(runs):
    runs.run()
    for case, maps in runs.stored().items():
        np.testing.assert_array_equal(maps, runs.expected[1][case])
