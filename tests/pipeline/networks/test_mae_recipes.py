"""Recipes in a training: rates, clipping, exact steps, and what it learns beyond an average."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grcsf.mae.build import build_masked_model
from grcsf.mae.masking import slice_masks
from pipeline.errors import PipelineError
from pipeline.networks.history import compare_losses, read_history
from pipeline.networks.mae_training import MaeTraining, learning_rate
from pipeline.settings import Adversarial, Mae
from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.slices import SliceDataset
from tests.pipeline.results import MAE, SLICES
from tests.pipeline.trainings import (
    assert_same,
    killed_before_epoch,
    nothing_trained,
    train,
    weights,
)

# two steps an epoch
SMALL = {"preset": "tiny", "image_size": 32, "patch_size": 8, "batch_size": 4, "picture_epochs": 0}
JUDGED = {"weight": 0.5, "start_epoch": 1}


def chosen(**given):
    return Mae.model_validate({**SMALL, **given})


def rows_of(manifest):
    return read_history(folder_of(manifest) / "history.csv")


@pytest.fixture
def steps_taken(monkeypatch):
    """The rates of the model's optimiser steps, and their gradients' lengths, as they happen."""
    taken = []
    original = MaeTraining.on_before_optimizer_step

    def noted(self, optimizer):
        original(self, optimizer)
        if optimizer is self.trainer.optimizers[0]:
            gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
            length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            taken.append((optimizer.param_groups[-1]["lr"], float(length)))

    monkeypatch.setattr(MaeTraining, "on_before_optimizer_step", noted)
    return taken


@pytest.mark.parametrize(
    ("steps", "adversarial"),
    [(1, None), (2, None), (3, {**JUDGED, "start_epoch": 0})],
    ids=["cut in its first epoch", "not cut", "judged"],
)
def test_a_training_ends_after_exactly_its_steps(ingested, steps_taken, steps, adversarial):
    settings = chosen(recipe="mae", steps=steps, adversarial=adversarial)
    manifest = train(ingested, settings)
    rates = [learning_rate(step // 2, step % 2, 2, settings) for step in range(steps)]
    assert [rate for rate, _ in steps_taken] == rates
    rows = rows_of(manifest)
    assert [row["epoch"] for row in rows] == list(range(-(-steps // 2)))
    assert all(np.isfinite(row["validation_loss"]) for row in rows)
    assert len({row["validation_loss"] for row in rows}) == len(rows), "the cut epoch is validated"


def test_rates_by_hand_step_by_step():
    def rates(**given):
        settings = chosen(**given, warmup=0.2, learning_rate=0.001)
        return [learning_rate(step // 2, step % 2, 2, settings) for step in range(10)]

    # of 10 steps, 2 warm up; then half a cosine over 8: cos 22.5° = 0.92388
    shares = [0.5, 1, 1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806]
    for length in ({"epochs": 5}, {"steps": 10}):
        found = rates(recipe="mae", **length)
        assert found == pytest.approx([0.001 * share for share in shares], rel=1e-4)
    stepped = rates(epochs=5, decay=0.5, decay_epochs=2)
    assert stepped == pytest.approx([5e-4, *[1e-3] * 3, *[5e-4] * 4, *[2.5e-4] * 2])


@pytest.mark.parametrize(
    ("given", "kind", "decays"),
    [
        ({}, torch.optim.Adam, [0]),
        ({"optimizer": "adamw", "weight_decay": 0.3}, torch.optim.AdamW, [0.3, 0]),
    ],
)
def test_the_optimiser_its_moments_and_its_decay_are_the_chosen_ones(tmp_path, given, kind, decays):
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    settings = chosen(**given, betas=(0.7, 0.8), learning_rate=0.5)
    (optimiser,) = MaeTraining(model, settings, 0, tmp_path).configure_optimizers()
    assert type(optimiser) is kind
    assert [group["weight_decay"] for group in optimiser.param_groups] == decays
    of_all = {(group["lr"], group["betas"]) for group in optimiser.param_groups}
    assert of_all == {(0.5, (0.7, 0.8))}


def test_a_training_step_masks_as_much_as_is_chosen(tmp_path, monkeypatch):
    model, masked = build_masked_model("mae", "tiny", image_size=32, patch_size=8), set()
    module = MaeTraining(model, chosen(train_mask_ratios=[0.25, 0.625]), 0, tmp_path)
    monkeypatch.setattr(MaeTraining, "trainer", SimpleNamespace(world_size=1))
    monkeypatch.setattr(module, "_log", lambda *_: None)
    model.register_forward_pre_hook(lambda _, given: masked.update(given[1].sum(dim=1).tolist()))
    for number in range(8):
        module.training_step({"image": torch.rand(2, 1, 32, 32)}, number)
    assert masked == {4, 10}, "of 16 patches"


@pytest.mark.parametrize("adversarial", [None, {**JUDGED, "start_epoch": 0}], ids=["", "judged"])
def test_gradients_are_shortened_to_their_longest(ingested, steps_taken, adversarial):
    train(ingested, chosen(steps=1, adversarial=adversarial), "free")
    free = [length for _, length in steps_taken]
    steps_taken.clear()
    longest = min(free) / 2
    train(ingested, chosen(steps=1, adversarial=adversarial, clip=longest), "clipped")
    assert [length for _, length in steps_taken] == pytest.approx([longest] * len(free), rel=1e-3)


def test_a_training_in_steps_resumes_to_the_same_bits(ingested):
    # the judge begins in the second epoch, in which the training is cut
    settings = chosen(recipe="mae", steps=3, adversarial=JUDGED)
    whole = train(ingested, settings, "whole")
    with killed_before_epoch(1):
        train(ingested, settings)
    assert_same(weights(whole), weights(train(ingested, settings)))
    losses = [
        [row["validation_loss"] for row in rows_of(ingested.mae(n))] for n in ("whole", "shared")
    ]
    assert losses[0] == losses[1]
    (folder_of(whole) / "model.safetensors").unlink()
    with nothing_trained():  # the last epoch is cut, and over all the same
        before = weights(ingested.mae("shared"))
        assert_same(before, weights(train(ingested, settings, "whole")))


def test_a_judge_that_steps_never_reach_is_refused(ingested):
    settings = chosen(steps=3, adversarial=Adversarial(start_epoch=2))
    with pytest.raises(
        PipelineError, match="start_epoch: found 2, expected less than the 2 epochs"
    ):
        train(ingested, settings)


def test_the_record_keeps_what_an_average_and_patch_means_would_lose(ingested, caplog):
    cases = {"train": [(case, z) for case in "ab" for z in (1, 4, 5)]}
    cases["validation"] = [("c", z) for z in (1, 4, 5)]
    images = {}
    for role, slices in cases.items():
        stores = {case: ingested.case_store(case) for case, _ in slices}
        data = SliceDataset(slices, stores, SLICES)
        images[role] = np.stack([data[index]["image"][0].numpy() for index in range(len(data))])
    average = images["train"].mean(axis=0)
    sums = []
    for ratio in MAE.train_mask_ratios:
        for row, image in enumerate(images["validation"]):
            drawn = {"seed": 5, "case": "validation batch 0", "slice_index": row, "passes": 1}
            mask = slice_masks(**drawn, mask_ratio=ratio, patches=16, scheme="random")[0]
            hidden = np.kron(mask.reshape(4, 4), np.ones((8, 8))).astype(bool)
            blocks = image.reshape(4, 8, 4, 8).mean(axis=(1, 3))
            means = np.kron(blocks, np.ones((8, 8)))
            sums.append([((guess - image) ** 2)[hidden].mean() for guess in (average, means)])
    with caplog.at_level(logging.INFO):
        manifest = train(ingested)
    kept = read_json(manifest)["validation"]
    expected = np.mean(sums, axis=0)
    assert [kept["average_slice"], kept["patch_mean"]] == pytest.approx(expected, rel=1e-4)
    assert kept["masked_loss"] == rows_of(manifest)[-1]["validation_loss"]
    assert f"average slice {expected[0]:.4f}; patch's own mean {expected[1]:.4f}" in caplog.text


@pytest.mark.parametrize(("loss", "level"), [(0.02, "INFO"), (0.04, "WARNING"), (0.05, "WARNING")])
def test_a_training_that_is_no_better_than_an_average_is_told(caplog, loss, level):
    history = [{"epoch": 0.0, "validation_loss": 9.0}, {"epoch": 1.0, "validation_loss": loss}]
    baselines = {"average_slice": 0.04, "patch_mean": 0.018}
    with caplog.at_level(logging.INFO):
        assert compare_losses("MAE x", history, 2, baselines) == {"masked_loss": loss, **baselines}
    (record,) = caplog.records
    line = record.getMessage()
    assert record.levelname == level
    assert f"masked loss {loss:.4f}; average slice 0.0400; patch's own mean 0.0180" in line
    assert ("50 % below the average slice" in line) == (level == "INFO")
    assert ("has not learnt healthy tissue" in line) == (level == "WARNING")
    assert compare_losses("MAE x", history[:1], 2, baselines) == {}
