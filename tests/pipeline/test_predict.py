"""Probabilities come back on the source's grid, however small or empty the source is."""

import numpy as np
import pytest
import torch
from torch import nn

from grcsf.models.build import build_segmentation_model
from pipeline.errors import PipelineError
from pipeline.predict import predict, predict_case
from pipeline.storage.files import read_json
from pipeline.storage.zarr_store import open_store, read_array, write_store
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import GRCSF, RESOURCES, SLICES, rewrite_attributes


def predicted(network, folder, image):
    write_store(folder / "case.zarr", {"image": image}, {"quantiles": [0.0] * 13})
    store = open_store(folder / "case.zarr")
    return predict_case(network, store, None, SLICES, torch.device("cpu"), 2)


@pytest.mark.parametrize("shape", [(1, 9, 11), (5, 1, 40), (3, 200, 17)])
@pytest.mark.parametrize("brightest", [0, 100], ids=["empty", "noise"])
def test_any_size_is_predicted_without_nan(tmp_path, shape, brightest):
    image = np.random.default_rng(0).integers(0, brightest + 1, shape, dtype=np.int16)
    network = build_segmentation_model("unetpp", width=4, input_size=(32, 32)).eval()
    probability = predicted(network, tmp_path, image)
    assert probability.shape == shape
    assert probability.dtype == np.float16
    assert np.isfinite(probability).all()


class Diverged(nn.Module):
    """A network whose weights are no numbers."""

    def forward(self, image, residuals=None):  # noqa: ARG002
        return image * float("nan")


def test_a_diverged_network_is_told(tmp_path):
    with pytest.raises(PipelineError, match="output is no number in slices 0 to 1"):
        predicted(Diverged(), tmp_path, np.arange(800, dtype=np.int16).reshape(2, 20, 20))


def test_a_slice_of_one_intensity_holds_no_lesion_and_is_not_looked_at(tmp_path):
    seen = []

    def certain(image, _residuals):
        seen.append(len(image))
        return torch.full_like(image, 40.0)

    image = np.zeros((6, 20, 20), np.int16)
    image[1], image[4, 0, 0] = 100, 100  # slice 1 is empty, too
    probability = predicted(certain, tmp_path, image)
    assert probability.reshape(6, -1).min(axis=1).tolist() == [0, 0, 0, 0, 1, 0]
    assert seen == [1]


class Brightness(nn.Module):
    """Calls lesion what is bright."""

    def forward(self, image, _residuals):
        return 40 * (image - 0.5)


def test_a_lesion_comes_back_to_its_own_place(tmp_path):
    image = np.zeros((4, 64, 96), np.int16)
    image[1, 10:30, 50:80] = 150
    probability = predicted(Brightness(), tmp_path, image)
    mask, reference = probability >= 0.5, image > 50
    assert not mask[[0, 2, 3]].any()
    overlap = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
    assert overlap > 0.9
    rows, columns = np.nonzero(mask[1])
    np.testing.assert_allclose([rows.mean(), columns.mean()], [19.5, 64.5], atol=1)


def test_probabilities_lie_on_the_sources_grid_and_are_made_again_for_another_header(
    with_residuals,
):
    train_segmentation(with_residuals, "grcsf", 1, GRCSF, 2, SLICES, 5, RESOURCES)

    def predict_again():
        predict(with_residuals, "grcsf", 1, GRCSF, 2, SLICES, RESOURCES)
        return read_json(with_residuals.predictions("grcsf", 1))["cases"]

    before = predict_again()
    assert sorted(before) == ["d", "e"], "the test and the unlabelled case"
    store = open_store(with_residuals.prediction_store("grcsf", 1, "d"))
    probability = read_array(store, "probability")
    source = open_store(with_residuals.case_store("d"))
    assert probability.shape == source["image"].shape
    assert 0 <= probability.min() <= probability.max() <= 1
    for key in ("spacing", "origin", "direction"):
        assert store.attrs[key] == source.attrs[key]
    assert store.attrs["seconds"] >= 0
    rewrite_attributes(with_residuals.case_store("d"), origin=[9.0, 9.0, 9.0])
    after = predict_again()
    assert after["d"] != before["d"]
    assert after["e"] == before["e"]
