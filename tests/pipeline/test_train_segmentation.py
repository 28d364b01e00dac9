"""Segmentation trainings resume to the same bits, and start anew without their best epoch."""

import shutil

import pytest

from pipeline.errors import PipelineError
from pipeline.networks.history import read_history
from pipeline.storage.layout import folder_of
from tests.pipeline.results import GRCSF, UNET
from tests.pipeline.trainings import assert_same, killed_before_epoch, segment, weights


def test_an_interrupted_training_ends_in_the_same_bits(with_residuals, tmp_path):
    plateau = {"plateau": {"factor": 0.5, "patience": 1}, "epochs": 3, "warmup_epochs": 1}
    training = GRCSF.training.model_validate({**GRCSF.training.model_dump(), **plateau})
    chosen = GRCSF.model_copy(update={"training": training})
    manifest = segment(with_residuals, chosen)
    whole = weights(manifest)
    folder_of(manifest).rename(tmp_path / "whole")
    with killed_before_epoch(2):
        segment(with_residuals, chosen)
    assert_same(whole, weights(segment(with_residuals, chosen)))
    rates = [
        [row["learning_rate"] for row in read_history(folder / "history.csv")]
        for folder in (tmp_path / "whole", folder_of(manifest))
    ]
    assert rates[0] == rates[1]


def test_a_model_without_its_best_checkpoint_is_trained_anew(ingested, caplog):
    manifest = segment(ingested, UNET)
    before = weights(manifest)
    checkpoints = folder_of(manifest) / "checkpoints"
    best = checkpoints / "best.ckpt"
    best.unlink()
    (folder_of(manifest) / "model.safetensors").unlink()
    caplog.clear()
    with caplog.at_level("INFO"), killed_before_epoch(0):
        segment(ingested, UNET)
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count(f"{best} is missing: starting anew") == 1
    assert not (checkpoints / "last.ckpt").exists(), "a second stop goes on from the lost training"
    assert_same(before, weights(segment(ingested, UNET)))


def test_a_missing_residual_store_names_its_case(with_residuals):
    shutil.rmtree(with_residuals.residual_store("mrm", "b"))
    with pytest.raises(PipelineError, match=r"case b: residual store .* run residual-maps again"):
        segment(with_residuals, GRCSF)
