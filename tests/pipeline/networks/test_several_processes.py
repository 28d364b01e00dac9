"""Trainings shared among processes, as on several GPUs; here on the CPU, through gloo."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from grcsf.mae.build import build_masked_model
from pipeline.networks.mae_training import MaeTraining
from pipeline.networks.trainer import strategy_of
from pipeline.settings import Adversarial

JUDGED = Adversarial(start_epoch=0)
pytestmark = pytest.mark.usefixtures("one_thread")


class RunningAway(MaeTraining):
    """The second process alone sees values that are not finite."""

    def _finite_everywhere(self, value):
        alone = value * float("nan") if self.global_rank == 1 else value
        return super()._finite_everywhere(alone)


def fit(module):
    # a fork knows this file's classes; with one thread there is no pool that it could lose
    strategy = strategy_of(module, 2).replace("ddp", "ddp_fork")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    images = [{"image": torch.rand(1, 32, 32)} for _ in range(8)]
    trainer.fit(module, DataLoader(images, 4), DataLoader(images, 4))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MaeTraining, RunningAway])
@pytest.mark.parametrize("adversarial", [None, JUDGED], ids=["MSE", "with a GAN term"])
def test_processes_train_one_mae_together(kind, adversarial, mae, tmp_path):
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    before = model.decoder_pred.weight.detach().clone()
    module = kind(model, mae.model_copy(update={"adversarial": adversarial}), 1, tmp_path)
    metrics = fit(module)
    assert metrics["train_loss"] > 0
    assert ("discriminator_loss" in metrics) == (adversarial is not None)
    assert not torch.equal(before, module.model.decoder_pred.weight)


def test_one_gpu_needs_no_sharing(mae, tmp_path):
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    assert strategy_of(MaeTraining(model, mae, 1, tmp_path), 1) == "auto"
