"""Grad-CAM as a residual set: the same store, each case by its own subset's network."""

import numpy as np
import pytest
import torch

from pipeline.networks.build import build_network
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.networks.weights import keep_model
from pipeline.predict import predict
from pipeline.settings import GradCam
from pipeline.storage.files import read_json, write_json
from pipeline.storage.roles import subset_of_cases
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import GRCSF, RESOURCES, SLICES, UNET

SEED = 5
CAM = GradCam(grad_cam="unet")


@pytest.fixture
def halves(ingested):
    """Two subsets, each with an untrained UNet of other weights."""
    split = {
        "1": {"train": ["a"], "validation": ["c"], "test": ["d"]},
        "2": {"train": ["b"], "validation": [], "test": []},
    }
    write_json(ingested.split, {**read_json(ingested.split), "subsets": split})
    for subset in (1, 2):
        torch.manual_seed(subset)
        keep_model(build_network(UNET, 0, SLICES), ingested.model("unet", subset), "x", {})
    return ingested


def made(layout, subsets=(1, 2)):
    grad_cam_maps(layout, "cam", "1of1", CAM, UNET, subsets, SLICES, RESOURCES)
    return read_json(layout.residual_batch("cam", "1of1"))["cases"]


def test_the_store_is_that_of_residual_maps(halves):
    assert sorted(made(halves)) == ["a", "b", "c", "d", "e"]
    store = open_store(halves.residual_store("cam", "a"))
    maps = read_array(store, "residual")
    assert maps.shape == (1, 6, 32, 32)
    assert maps.dtype == np.float16
    assert 0 <= maps.min() < maps.max() <= 1
    assert not maps[:, 0].any(), "an empty slice stays 0"
    assert store.attrs["image"] == open_store(halves.case_store("a")).attrs["sha256_image"]


def test_each_case_is_looked_at_by_its_own_subset_s_network(halves):
    assert subset_of_cases(halves, (1, 2)) == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1}
    made(halves)
    for case, subset in (("a", 1), ("b", 2), ("e", 1)):
        weights = open_store(halves.residual_store("cam", case)).attrs["weights"]
        record = read_json(halves.model("unet", subset))
        assert weights == {f"unet, subset {subset}": record["weights_sha256"]}
    assert sorted(made(halves, subsets=(2,))) == ["b", "e"]


def test_only_other_weights_make_a_store_again(halves):
    made(halves)

    def written():
        stores = {case: halves.residual_store("cam", case) for case in "abcde"}
        return {case: (store / "zarr.json").stat().st_mtime_ns for case, store in stores.items()}

    before = written()
    made(halves)
    assert written() == before
    torch.manual_seed(9)
    keep_model(build_network(UNET, 0, SLICES), halves.model("unet", 2), "y", {})
    made(halves)
    assert [case for case, time in written().items() if time != before[case]] == ["b"]


def test_a_network_trains_and_predicts_on_the_maps(halves):
    made(halves)
    chosen = GRCSF.model_copy(update={"residuals": "cam"})
    train_segmentation(halves, "grcsf", 1, chosen, 1, SLICES, SEED, RESOURCES)
    predict(halves, "grcsf", 1, chosen, 1, SLICES, RESOURCES)
    assert "d" in read_json(halves.predictions("grcsf", 1))["cases"]
