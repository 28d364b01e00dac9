"""Trainings shared by two processes, as on several GPUs; here on the CPU, through gloo.

Their loss curve is that of one process with the same whole batch.
"""

import lightning
import numpy as np
import pytest
from torch import distributed as dist
from torch import nn

from grcsf.mae.adversarial import generator_term
from pipeline import train_segmentation as stage
from pipeline.networks import mae_training, trainer
from pipeline.networks.build import build_network
from pipeline.networks.history import read_history
from pipeline.settings import Adversarial, Experiment, Mae, Resources, Training
from pipeline.storage.folders import folder_of
from tests.pipeline.results import MAE, SLICES
from tests.pipeline.trainings import train

LOSSES = ("train_loss", "validation_loss", "learning_rate")
ALONE, TOGETHER = Resources(threads=1), Resources(threads=1, nodes=2)


def without_batch_norm(*arguments):
    """A network of slices that are each their own: torch shares statistics on GPUs only."""
    network = build_network(*arguments)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, nn.GroupNorm(1, layer.num_features))
    return network


@pytest.fixture
def two_processes(monkeypatch):
    """Trainers that ask for two nodes get two processes here, which are forked."""
    original = lightning.Trainer

    def on_one_node(**chosen):
        if chosen.pop("num_nodes") == 1:
            return original(**chosen)
        plugins = chosen.pop("plugins")[1:]  # Lightning's own environment in SLURM's place
        strategy = chosen.pop("strategy").replace("ddp", "ddp_fork")
        return original(**{**chosen, "devices": 2, "strategy": strategy, "plugins": plugins})

    monkeypatch.setattr(lightning, "Trainer", on_one_node)


def curve(manifest):
    rows = read_history(folder_of(manifest) / "history.csv")
    return np.array([[row[name] for name in LOSSES] for row in rows])


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
def test_two_processes_train_an_mae_as_one_does(ingested, trained_once):
    train(ingested, MAE, resources=TOGETHER)
    alone, together = curve(trained_once.mae("shared")), curve(ingested.mae("shared"))
    assert len(alone) == MAE.epochs
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
def test_two_processes_end_after_the_same_steps_as_one_does(ingested):
    shape = {"preset": "tiny", "image_size": 32, "patch_size": 8, "batch_size": 4}
    settings = Mae.model_validate({**shape, "recipe": "mae", "steps": 3})
    runs = {"alone": ALONE, "together": TOGETHER}
    alone, together = (
        curve(train(ingested, settings, name, resources)) for name, resources in runs.items()
    )
    assert len(alone) == 2
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("away", [False, True], ids=["judged", "running away in one process"])
def test_two_processes_train_an_adversarial_mae(ingested, trained_once, monkeypatch, away):
    def term(*arguments):
        runs_away = away and dist.get_rank() == 1
        return generator_term(*arguments) * (float("nan") if runs_away else 1)

    monkeypatch.setattr(mae_training, "generator_term", term)
    judged = MAE.model_copy(update={"adversarial": Adversarial(start_epoch=0)})
    train(ingested, judged, resources=TOGETHER)
    plain, together = curve(trained_once.mae("shared")), curve(ingested.mae("shared"))
    assert np.isfinite(together).all()
    # where one process has lost the term, all do without it
    assert np.allclose(together, plain, rtol=1e-4) == away


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
def test_two_processes_train_a_network_as_one_does(ingested, monkeypatch):
    monkeypatch.setattr(stage, "build_network", without_batch_norm)
    # in float32 three epochs make some 5 % of a rounding, and which one depends on the processor
    monkeypatch.setitem(trainer.PRECISIONS, "fp32", "64-true")
    training = Training(epochs=3, batch_size=4, warmup_epochs=1, loss="mixed", learning_rate=0.01)
    network = Experiment(model="unet", width=2, training=training)
    for name, resources in (("alone", ALONE), ("together", TOGETHER)):
        stage.train_segmentation(ingested, name, 1, network, 0, SLICES, 5, resources)
    alone, together = curve(ingested.model("alone", 1)), curve(ingested.model("together", 1))
    assert len(alone) == 3
    np.testing.assert_allclose(together, alone, rtol=1e-6)
