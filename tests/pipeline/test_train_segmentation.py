"""Segmentation trainings resume to the same bits, and start anew without their best epoch."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline import train_segmentation as stage
from pipeline.errors import PipelineError
from pipeline.networks.history import read_history
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.settings import Experiment, Training, repeat_seed
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout
from tests.pipeline.results import GRCSF, UNET
from tests.pipeline.trainings import (
    SEED,
    KilledError,
    assert_same,
    at_epoch_start,
    begins,
    differing,
    killed_before_epoch,
    nothing_trained,
    segment,
    weights,
)

PLAIN = ["epoch", "train_loss", "validation_loss", "learning_rate", "seconds"]


def test_an_interrupted_training_ends_in_the_same_bits_also_where_its_begin_told_no_units(
    with_residuals, tmp_path
):
    plateau = {"plateau": {"factor": 0.5, "patience": 1}, "epochs": 3, "warmup_epochs": 1}
    training = GRCSF.training.model_validate({**GRCSF.training.model_dump(), **plateau})
    chosen = GRCSF.model_copy(update={"training": training})
    folder = folder_of(segment(with_residuals, chosen))
    whole, history = ended(folder)
    assert len(history) == 3
    shutil.rmtree(folder)
    with killed_before_epoch(2):
        segment(with_residuals, chosen)
    shutil.copytree(folder, tmp_path / "stopped")
    segment(with_residuals, chosen)
    resumed, rows = ended(folder)
    assert_same(whole, resumed)
    assert rows == history, "learning rates and what the units contributed, too"
    # as versions before have begun it
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "stopped", folder)
    path = folder / "history.csv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(",".join(line.split(",")[: len(PLAIN)]) for line in lines) + "\n")
    segment(with_residuals, chosen)
    resumed, rows = ended(folder)
    assert_same(whole, resumed)
    assert rows[2] == history[2]
    assert list(rows[0]) == list(rows[2])
    assert np.isnan(rows[0]["rcu_1"])


def ended(folder):
    """What a training ended with: its weights, and its history without times."""
    rows = [{**row, "seconds": 0} for row in read_history(folder / "history.csv")]
    return load_file(folder / "model.safetensors"), rows


def test_units_are_told_epoch_by_epoch_and_those_that_stay_at_nothing(with_residuals, caplog):
    rcu = {**GRCSF.rcu.model_dump(), "levels": (2, 1), "patch_sizes": (4, 4), "start": 0}
    still = {"learning_rate": 1e-9, "warmup_factor": 1}
    chosen = Experiment.model_validate(
        {**GRCSF.model_dump(), "rcu": rcu, "training": {**GRCSF.training.model_dump(), **still}}
    )
    folder = folder_of(segment(with_residuals, chosen))
    rows = read_history(folder / "history.csv")
    gcus, rcus = [f"gcu_{level}" for level in range(4)], ["rcu_1", "rcu_2"]
    factors = [f"{unit}_w{place}" for unit in rcus for place in (1, 2)]
    assert set(rows[0]) == {*PLAIN, *gcus, *rcus, *factors}
    assert all(row[unit] > 0.01 for row in rows for unit in gcus)
    assert all(0 < row[unit] < 1e-6 for row in rows for unit in rcus)
    assert all(0 < abs(row[factor]) < 1e-6 for row in rows for factor in factors)
    told = [line for line in caplog.messages if "stayed at nothing" in line]
    expected = [f"grcsf, subset 1: the RCU at {scale} stayed" for scale in ("1/2", "1/4")]
    assert [line[: len(expected[0])] for line in told] == expected
    (events,) = (folder / "tensorboard").glob("events*")
    assert b"rcu_2_w1" in events.read_bytes()


@pytest.mark.parametrize(
    ("losses", "stop", "best"),
    [((0.0, 1.0, 2.0, 3.0), 3, 0), ((3.0, 1.0, 2.5, 2.0), 2, 1)],
    ids=["first is best", "second is best"],
)
def test_a_training_goes_on_from_its_last_epoch_and_keeps_its_best_where_it_was_moved_to(
    ingested, monkeypatch, losses, stop, best
):
    def given(self, batch, _):
        loss = losses[self.current_epoch]
        self.log("validation_loss", loss, batch_size=len(batch["image"]))

    monkeypatch.setattr(SegmentationTraining, "validation_step", given)
    training = UNET.training.model_copy(update={"epochs": 4})
    chosen = UNET.model_copy(update={"training": training})
    with killed_before_epoch(stop):
        segment(ingested, chosen)
    moved = ingested.root.with_name("moved")
    ingested.root.rename(moved)
    started = []
    at_epoch_start(monkeypatch, started.append)
    manifest = segment(Layout(moved, ingested.dataset), chosen)
    assert started == list(range(stop, 4))
    rows = read_history(folder_of(manifest) / "history.csv")
    assert [row["validation_loss"] for row in rows] == list(losses)
    checkpoint = torch.load(folder_of(manifest) / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == best
    assert "optimizer_states" not in checkpoint, "three times the bytes"
    assert not ingested.root.exists()


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


@pytest.mark.parametrize(
    # of 6 slices of both cases 2 have a lesion, and a quarter of the others is shown
    ("order", "shown"),
    [({}, 2 * 2 + 2), ({"slice_per_case": 0.5}, 2)],
)
def test_a_training_begins_with_the_slices_epochs_and_patience_that_are_chosen(
    ingested, monkeypatch, order, shown
):
    begun = begins(monkeypatch, stage)
    chosen = {"epochs": 7, "patience": 3, "precision": "bf16"}
    training = Training(**chosen, **order, batch_size=5, lesion_free_fraction=0.25)
    with pytest.raises(KilledError):
        segment(ingested, UNET.model_copy(update={"training": training}))
    assert begun.items() >= chosen.items()
    train, validation = begun["loaders"]
    assert [len(train.sampler), len(validation.dataset)] == [shown, 2 + 1]
    assert [loader.batch_size for loader in (train, validation)] == [5, 5]


def test_a_training_on_fewer_labelled_cases_lists_them_and_leaves_the_others_alone(ingested):
    few = UNET.model_copy(update={"labelled_cases": 2})
    record = read_json(segment(ingested, few))
    (first,) = record["settings"]["labelled"]["train"]
    assert first in ("a", "b")
    assert record["settings"]["labelled"]["validation"] == ["c"]
    assert record["settings"]["experiment"]["labelled_cases"] == 2
    # what the other training case holds is of no account
    cases = read_json(ingested.cases)
    (other,) = {"a", "b"} - {first}
    cases["cases"][other]["sha256_label"] = "another"
    write_json(ingested.cases, cases)
    with nothing_trained():
        segment(ingested, few)


def test_a_repeat_differs_by_its_seed_alone_and_the_first_is_what_it_was(ingested):
    first = segment(ingested, UNET)
    with nothing_trained():
        segment(ingested, UNET.model_copy(update={"repeats": 3}))
    second = segment(ingested, UNET.model_copy(update={"repeats": 2}), "grcsf/repeat-2")
    assert second == first.parent / "repeat-2" / "subset-1.json"
    assert differing(weights(first), weights(second))
    kept = [read_json(manifest)["settings"] for manifest in (first, second)]
    assert kept[0]["seed"] == SEED
    assert kept[1].pop("seed") == repeat_seed(SEED, "grcsf/repeat-2") != kept[0].pop("seed")
    assert kept[0] == kept[1]
