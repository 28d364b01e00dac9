"""What tests of trainings share: to run one, to break it off, and to compare weights."""

from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from pipeline.networks import trainer
from pipeline.storage.folders import folder_of
from pipeline.train_mae import train_mae
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import MAE, RESOURCES, SLICES

SEED = 5


def weights(manifest):
    return load_file(folder_of(manifest) / "model.safetensors")


def differing(left, right):
    """Names of the weights that are not the same bits."""
    assert left.keys() == right.keys()
    return [name for name, value in left.items() if not torch.equal(value, right[name])]


def assert_same(left, right):
    assert differing(left, right) == []


def train(layout, mae=MAE, name="shared", resources=RESOURCES):
    train_mae(layout, name, mae, SLICES, SEED, resources)
    return layout.mae(name)


def segment(layout, experiment, name="grcsf", resources=RESOURCES):
    maps = 2 if experiment.residuals else 0
    train_segmentation(layout, name, 1, experiment, maps, SLICES, SEED, resources)
    return layout.model(name, 1)


class KilledError(Exception):
    pass


def begins(patch, stage):
    """Have a stage's trainings end where they begin; the options that they would have run with."""
    options = {}

    def begun(_module, loaders, *_, **given):
        options.update(given, loaders=loaders)
        raise KilledError

    patch.setattr(stage, "fit", begun)
    return options


def at_epoch_start(patch, action):
    """Have `action(epoch)` done before every epoch."""
    original = trainer.EpochHistory.on_train_epoch_start

    def start(self, lightning_trainer, *rest):
        action(lightning_trainer.current_epoch)
        original(self, lightning_trainer, *rest)

    patch.setattr(trainer.EpochHistory, "on_train_epoch_start", start)


@contextmanager
def nothing_trained(from_epoch=0):
    """No epoch from this one on may begin in this block."""

    def die(current):
        if current == from_epoch:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        at_epoch_start(patch, die)
        yield


@contextmanager
def killed_before_epoch(epoch):
    """The training in this block ends before `epoch`, with the checkpoint of the one before."""
    with pytest.raises(KilledError), nothing_trained(from_epoch=epoch):
        yield
