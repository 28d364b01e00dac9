"""Trainings shared among processes, as on several GPUs; here on the CPU, through gloo."""

import lightning
import pytest
import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from grcsf.mae.adversarial import generator_term
from grcsf.mae.build import build_masked_model
from pipeline.networks import mae_training
from pipeline.networks.mae_training import MaeTraining
from pipeline.networks.trainer import strategy_of
from pipeline.settings import Adversarial


def fit(module):
    # a fork knows this file's classes; with one thread there is no pool that it could lose
    strategy = strategy_of(module, 2).replace("ddp", "ddp_fork")
    trainer = lightning.Trainer(
        max_epochs=1,
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


def runs_away_in_the_second_process(*arguments):
    term = generator_term(*arguments)
    return term * float("nan") if dist.get_rank() == 1 else term


@pytest.mark.slow
@pytest.mark.parametrize("term", [generator_term, runs_away_in_the_second_process])
def test_processes_train_one_adversarial_mae_together(term, mae, tmp_path, monkeypatch):
    monkeypatch.setattr(mae_training, "generator_term", term)
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    before = model.decoder_pred.weight.detach().clone()
    judged = mae.model_copy(update={"adversarial": Adversarial(start_epoch=0)})
    module = MaeTraining(model, judged, 1, tmp_path)
    metrics = fit(module)
    assert metrics["train_loss"] > 0
    assert "discriminator_loss" in metrics
    assert not torch.equal(before, module.model.decoder_pred.weight)


def test_one_gpu_needs_no_sharing(mae, tmp_path):
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    assert strategy_of(MaeTraining(model, mae, 1, tmp_path), 1) == "auto"
