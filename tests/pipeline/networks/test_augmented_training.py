"""Trainings that vary their slices: to the same bits after a stop, and in training steps alone."""

import shutil
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from pipeline.networks import trainer
from pipeline.networks.trainer import augmented
from pipeline.settings import Augment, Experiment, Mae
from pipeline.storage.folders import folder_of
from tests.pipeline.results import GRCSF, MAE, UNET
from tests.pipeline.trainings import (
    SEED,
    assert_same,
    differing,
    killed_before_epoch,
    segment,
    train,
    weights,
)

AUGMENT = {"flip": 0.5, "rotate": 30, "scale": 0.2, "shift": 0.1}
AUGMENT |= {"elastic": 0.03, "gamma": 0.2, "noise": 0.05}


def train_grcsf(layout, augment, experiment=GRCSF):
    training = {**experiment.training.model_dump(), "augment": augment}
    return segment(layout, Experiment(**{**experiment.model_dump(), "training": training}))


def train_network(layout, augment):
    return train_grcsf(layout, augment, UNET)


def train_model(layout, augment):
    return train(layout, Mae.model_validate({**MAE.model_dump(), "augment": augment}), name="own")


@pytest.mark.parametrize("trained", [train_network, train_model])
def test_a_stopped_training_varies_its_slices_as_before(ingested, trained):
    manifest = trained(ingested, AUGMENT)
    whole = weights(manifest)
    shutil.rmtree(folder_of(manifest))
    with killed_before_epoch(1):
        trained(ingested, AUGMENT)
    assert_same(whole, weights(trained(ingested, AUGMENT)))
    assert differing(whole, weights(trained(ingested, {"flip": 1.0}))) != []


@pytest.mark.parametrize(
    ("trained", "augment", "batches"),
    [
        (train_grcsf, AUGMENT, 3),
        (train_model, AUGMENT, 2),
        (train_network, {}, 0),
        (train_model, {"flip": 0}, 0),
    ],
)
def test_training_steps_vary_their_slices_and_nothing_else_does(
    with_residuals, monkeypatch, trained, augment, batches
):
    """Neither validation nor the comparison of an MAE with averages: one draw a training step."""
    seeds, original = [], trainer.draw_variations

    def noted(strengths, count, seed):
        assert asdict(strengths) == augment, "each as it was chosen"
        seeds.append(tuple(seed))
        return original(strengths, count, seed)

    monkeypatch.setattr(trainer, "draw_variations", noted)
    trained(with_residuals, augment)
    assert seeds == [(SEED, epoch, batch) for epoch in (0, 1) for batch in range(batches)]


def test_processes_share_a_batch_s_variations_as_the_sampler_deals_its_slices():
    def process(rank, processes):
        shared = SimpleNamespace(world_size=processes)
        return SimpleNamespace(global_rank=rank, trainer=shared, current_epoch=3)

    image = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = augmented(process(0, 1), {"image": image}, 2, Augment(**AUGMENT), 5)["image"]
    for rank in (0, 1):
        part = {"image": image[rank::2]}
        own = augmented(process(rank, 2), part, 2, Augment(**AUGMENT), 5)["image"]
        assert torch.equal(own, whole[rank::2])
    later = process(0, 1)
    later.current_epoch = 4
    after = augmented(later, {"image": image}, 2, Augment(**AUGMENT), 5)["image"]
    assert not torch.equal(after, whole)
