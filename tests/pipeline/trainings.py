"""What tests of trainings share: to run one, to break it off, and to compare weights."""

import torch
from safetensors.torch import load_file

from pipeline.networks import trainer as training
from pipeline.settings import Experiment, Training
from pipeline.storage.layout import folder_of
from pipeline.train_mae import train_mae
from pipeline.train_segmentation import train_segmentation

SEED = 5
UNET = Experiment(model="unet", width=2, training=Training(epochs=2, batch_size=4, warmup_epochs=1))


def weights(manifest):
    return load_file(folder_of(manifest) / "model.safetensors")


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def train(layout, mae, slices, resources):
    train_mae(layout, "shared", mae, slices, SEED, resources)
    return layout.mae("shared")


class KilledError(Exception):
    pass


def kill_after_epoch(monkeypatch, epoch):
    """Break the training off once the checkpoint of `epoch` has been written."""
    original = training.EpochHistory.on_train_epoch_start

    def dying(self, trainer, *rest):
        if trainer.current_epoch == epoch:
            raise KilledError
        original(self, trainer, *rest)

    monkeypatch.setattr(training.EpochHistory, "on_train_epoch_start", dying)


def segment(layout, experiment, slices, resources):
    train_segmentation(layout, "grcsf", 1, experiment, 2, slices, SEED, resources)
    return layout.model("grcsf", 1)
