"""Trainings resume to the same bits, start anew for new settings, and leak no test case."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import train_mae as mae_stage
from pipeline.networks import trainer as training
from pipeline.networks.history import read_history
from pipeline.networks.mae_training import MaeTraining
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout, folder_of
from pipeline.train_mae import lesion_free_slices, train_mae
from tests.pipeline.trainings import (
    SEED,
    UNET,
    KilledError,
    assert_same,
    kill_after_epoch,
    segment,
    train,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_only_lesion_free_slices_of_training_cases_are_learnt(ingested):
    cases = read_json(ingested.cases)["cases"]
    train_slices, validation = lesion_free_slices(ingested, cases)
    assert train_slices == [(case, z) for case in "ab" for z in (1, 4, 5)]
    assert validation == [("c", z) for z in (1, 4, 5)]


def test_an_interrupted_mae_training_ends_in_the_same_bits(
    ingested, mae, slices, resources, monkeypatch, tmp_path
):
    whole = weights(train(ingested, mae, slices, resources))
    for manifest in (ingested.mae("shared"),):
        folder_of(manifest).rename(tmp_path / "whole")
        manifest.unlink()
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 1)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    assert not ingested.mae("shared").exists()
    resumed = train(ingested, mae, slices, resources)
    assert_same(whole, weights(resumed))
    rows = read_history(folder_of(resumed) / "history.csv")
    assert [row["epoch"] for row in rows] == [0, 1]


def test_a_training_goes_on_from_its_last_epoch_and_not_from_its_best(
    ingested, mae, slices, resources, monkeypatch
):
    def rising(self, batch, _):
        self.log("validation_loss", float(self.current_epoch), batch_size=len(batch["image"]))

    monkeypatch.setattr(MaeTraining, "validation_step", rising)
    mae = mae.model_copy(update={"epochs": 4})
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 3)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    started = []

    def noting(self, trainer, *rest):
        started.append(trainer.current_epoch)
        original(self, trainer, *rest)

    original = training.EpochHistory.on_train_epoch_start
    monkeypatch.setattr(training.EpochHistory, "on_train_epoch_start", noting)
    manifest = train(ingested, mae, slices, resources)
    assert started == [3]
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["epoch"] == 0


def test_a_training_that_was_moved_keeps_its_best_epoch(
    ingested, mae, slices, resources, monkeypatch
):
    losses = (3.0, 1.0, 2.5, 2.0)  # the second epoch is the best; the stop comes after it

    def given(self, batch, _):
        self.log("validation_loss", losses[self.current_epoch], batch_size=len(batch["image"]))

    monkeypatch.setattr(MaeTraining, "validation_step", given)
    mae = mae.model_copy(update={"epochs": 4})
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 2)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    moved = ingested.root.with_name("moved")
    ingested.root.rename(moved)
    manifest = train(Layout(moved, ingested.dataset), mae, slices, resources)
    rows = read_history(folder_of(manifest) / "history.csv")
    assert [row["validation_loss"] for row in rows] == list(losses)
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["epoch"] == 1
    assert not ingested.root.exists()


def test_a_finished_mae_is_not_trained_again_and_other_settings_start_anew(
    ingested, mae, slices, resources, monkeypatch
):
    manifest = train(ingested, mae, slices, resources)
    first = weights(manifest)
    manifest.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(mae_stage, "fit", lambda *_, **__: pytest.fail("trained again"))
        train(ingested, mae, slices, resources)
    assert manifest.exists()
    train(ingested, mae.model_copy(update={"learning_rate": 1e-2}), slices, resources)
    assert not torch.equal(weights(manifest)["mask_token"], first["mask_token"])
    assert not list(manifest.parent.glob(".*")), "nothing is left of the one that was replaced"


def test_the_masks_of_training_change_with_the_seed(ingested, mae, slices, resources):
    first = weights(train(ingested, mae, slices, resources))
    train_mae(ingested, "shared", mae, slices, SEED + 1, resources)
    assert not torch.equal(weights(ingested.mae("shared"))["mask_token"], first["mask_token"])


def test_an_interrupted_segmentation_training_ends_in_the_same_bits(
    with_residuals, experiment, slices, resources, monkeypatch, tmp_path
):
    plateau = {"plateau": {"factor": 0.5, "patience": 1}, "epochs": 3, "warmup_epochs": 1}
    training_settings = experiment.training.model_validate(
        {**experiment.training.model_dump(), **plateau}
    )
    experiment = experiment.model_copy(update={"training": training_settings})
    manifest = segment(with_residuals, experiment, slices, resources)
    whole = weights(manifest)
    folder_of(manifest).rename(tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 2)
        with pytest.raises(KilledError):
            segment(with_residuals, experiment, slices, resources)
    assert_same(whole, weights(segment(with_residuals, experiment, slices, resources)))
    rates = [
        [row["learning_rate"] for row in read_history(folder / "history.csv")]
        for folder in (tmp_path / "whole", folder_of(manifest))
    ]
    assert rates[0] == rates[1]


def lose_model(manifest, checkpoint):
    for name in ("model.safetensors", f"checkpoints/{checkpoint}.ckpt"):
        (folder_of(manifest) / name).unlink()


def test_a_model_without_its_best_checkpoint_is_trained_anew(
    ingested, slices, resources, monkeypatch, caplog
):
    manifest = segment(ingested, UNET, slices, resources)
    before = weights(manifest)
    lose_model(manifest, "best")
    caplog.clear()
    with caplog.at_level("INFO"), monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        with pytest.raises(KilledError):
            segment(ingested, UNET, slices, resources)
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    said = [record.getMessage() for record in caplog.records]
    assert said.count(f"{best} is missing: starting anew") == 1
    last = best.with_name("last.ckpt")
    assert not last.exists(), "a second stop would go on from the lost training"
    assert_same(before, weights(segment(ingested, UNET, slices, resources)))


def test_an_mae_without_its_best_checkpoint_is_taken_from_its_last(
    ingested, mae, slices, resources, monkeypatch
):
    manifest = train(ingested, mae, slices, resources)
    before = weights(manifest)
    lose_model(manifest, "best")
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        assert_same(before, weights(train(ingested, mae, slices, resources)))


def test_a_checkpoint_that_is_only_used_needs_no_slice(ingested, mae, slices, resources, tmp_path):
    path = tmp_path / "mae.safetensors"
    path.write_bytes(
        (folder_of(train(ingested, mae, slices, resources)) / "model.safetensors").read_bytes()
    )
    content = read_json(ingested.cases)
    for case in content["cases"].values():
        case["slices_with_lesion"] = list(range(6))
    write_json(ingested.cases, content)
    used = mae.model_copy(update={"checkpoint": str(path), "epochs": 0})
    assert_same(load_file(path), weights(train(ingested, used, slices, resources)))


def test_an_mae_is_not_trained_again_where_its_checkpoint_has_moved(
    ingested, mae, slices, resources, monkeypatch, tmp_path
):
    first, moved = tmp_path / "mae.safetensors", tmp_path / "elsewhere" / "weights.safetensors"
    shutil.copy(folder_of(train(ingested, mae, slices, resources)) / "model.safetensors", first)

    def start_from(path):
        return train(ingested, mae.model_copy(update={"checkpoint": str(path)}), slices, resources)

    before = weights(start_from(first))
    moved.parent.mkdir()
    first.rename(moved)
    kill_after_epoch(monkeypatch, 0)
    assert_same(before, weights(start_from(moved)))
    save_file({name: value + 1 for name, value in before.items()}, moved)
    with pytest.raises(KilledError):
        start_from(moved)
