"""Channels side by side in memory: the same training, prediction and weights but for rounding."""

import shutil

import pytest
import torch

from pipeline.networks import segmentation_training
from pipeline.networks.history import read_history
from pipeline.predict import predict
from pipeline.settings import Experiment
from pipeline.storage.layout import folder_of
from pipeline.storage.zarr_store import open_store
from tests.pipeline.results import GRCSF, RESOURCES, SLICES
from tests.pipeline.trainings import segment


def arranged(channels_last):
    training = {**GRCSF.training.model_dump(), "channels_last": channels_last, "epochs": 1}
    return Experiment(**{**GRCSF.model_dump(), "training": training})


def losses(manifest):
    epochs = read_history(folder_of(manifest) / "history.csv")
    return [float(epoch[name]) for epoch in epochs for name in ("train_loss", "validation_loss")]


def predicted(layout, settings):
    predict(layout, "grcsf", 1, settings, 2, SLICES, RESOURCES)
    folder = layout.predictions("grcsf", 1).with_suffix("")
    probability = open_store(next(folder.glob("*.zarr")))["probability"][:]
    shutil.rmtree(folder)
    return torch.from_numpy(probability).float()


def test_channels_last_changes_rounding_alone(with_residuals, monkeypatch):
    seen, original = [], segmentation_training.augmented

    def noted(module, *rest):
        kernels = [value for value in module.network.parameters() if value.dim() == 4]
        formats = torch.channels_last, torch.contiguous_format
        seen.append(
            tuple(all(k.is_contiguous(memory_format=kind) for k in kernels) for kind in formats)
        )
        return original(module, *rest)

    monkeypatch.setattr(segmentation_training, "augmented", noted)
    plain = losses(segment(with_residuals, arranged(False)))
    probability = predicted(with_residuals, arranged(False))
    assert set(seen) == {(False, True)}
    of_same_weights = predicted(with_residuals, arranged(True))
    torch.testing.assert_close(of_same_weights, probability, rtol=0, atol=1e-3)
    seen.clear()
    assert losses(segment(with_residuals, arranged(True))) == pytest.approx(plain, rel=1e-3)
    assert set(seen) == {(True, False)}


def test_results_from_before_it_was_known_stay_valid():
    assert "channels_last" not in arranged(False).model_dump(mode="json")["training"]
    assert arranged(True).model_dump(mode="json")["training"]["channels_last"] is True
