"""The rates that the optimiser really has, epoch by epoch, beside section 4.3's by hand."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from grcsf.mae.build import build_masked_model
from pipeline.networks.mae_training import MaeTraining
from pipeline.networks.segmentation_training import SegmentationTraining, learning_rate
from pipeline.settings import Mae, Training

# As in tests/grcsf/test_schedule.py: five epochs up to tenfold, ten down to nothing.
COSINE = [1.00000e-4, 1.85942e-4, 4.10942e-4, 6.89058e-4, 9.14058e-4]
COSINE += [1.00000e-3, 9.75528e-4, 9.04508e-4, 7.93893e-4, 6.54508e-4]
COSINE += [5.00000e-4, 3.45492e-4, 2.06107e-4, 9.54915e-5, 2.44717e-5]
# Epoch 0 sets the lowest loss. It stands still in epochs 1 to 5, so epoch 6 has half the rate;
# and in 6 to 10, so epoch 11 has a quarter of it.
PLATEAU = [1.00000e-4, 1.85942e-4, 4.10942e-4, 6.89058e-4, 9.14058e-4, 1.00000e-3]
PLATEAU += [4.87764e-4, 4.52254e-4, 3.96946e-4, 3.27254e-4, 2.50000e-4]
PLATEAU += [8.63729e-5, 5.15269e-5, 2.38729e-5, 6.11794e-6]


class Stuck(nn.Module):
    """Has a parameter, and the same logits whatever its value: the loss never falls."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.ones(()))

    def forward(self, image, _residuals):
        return image + 0 * self.idle

    def supervised(self, image, residuals):
        return [(1.0, self(image, residuals))]


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        (group,) = trainer.optimizers[0].param_groups
        self.seen.append(group["lr"])


def rates_of(module, slices, epochs, folder):
    """The rate that each epoch's one batch was learnt with."""
    seen = Rates()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        callbacks=[seen],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, slices, slices)
    return seen.seen


@pytest.mark.parametrize(
    ("special", "rates"),
    [({}, COSINE), ({"loss": "focal", "plateau": {}}, PLATEAU)],
    ids=["ATLAS and Lung", "orCaScore"],
)
def test_the_optimiser_has_the_rates_of_section_4_3(tmp_path, special, rates):
    module = SegmentationTraining(Stuck(), Training(epochs=15, **special), seed=0)
    slices = DataLoader([{"image": torch.zeros(1, 4, 4), "label": torch.eye(4)[None]}])
    assert rates_of(module, slices, 15, tmp_path) == pytest.approx(rates, rel=1e-5)


def test_rates_follow_the_chosen_warm_up_plateau_and_steps():
    rising = {"learning_rate": 0.01, "warmup_epochs": 2, "warmup_factor": 3, "epochs": 4}
    settings = Training(**rising, plateau={"factor": 0.2, "patience": 2})
    rates = [learning_rate(epoch, settings, ()) for epoch in range(4)]
    assert rates == pytest.approx([0.01, 0.02, 0.03, 0.015])
    # two epochs without a lower loss than the first
    assert learning_rate(3, settings, [1, 1, 2]) == pytest.approx(0.2 * 0.015)
    fading = {"schedule": "polynomial", "learning_rate": 0.01, "warmup_epochs": 2, "epochs": 4}
    # e^−10 at first, and half of the epochs left to the power of 0.9
    rates = [learning_rate(epoch, Training(**fading), ()) for epoch in (0, 2)]
    assert rates == pytest.approx([4.53999e-7, 0.00535887])
    stepped = Training(schedule="constant", learning_rate=0.01, later_rates=[[2, 0.001]], epochs=4)
    assert [learning_rate(epoch, stepped, ()) for epoch in (1, 2)] == [0.01, 0.001]


@pytest.mark.parametrize("special", [{}, {"adversarial": {}}], ids=["MSE", "with a GAN term"])
def test_the_mae_s_optimiser_has_the_rates_of_section_4_3(tmp_path, special):
    # × 0.9 every 50 epochs there, every 2 here
    settings = Mae(preset="tiny", image_size=32, patch_size=8, decay_epochs=2, **special)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    module = MaeTraining(model, settings, seed=0, pictures=tmp_path)
    slices = DataLoader([{"image": torch.rand(1, 32, 32)}])
    expected = [1e-3, 1e-3, 9e-4, 9e-4, 8.1e-4, 8.1e-4, 7.29e-4]
    assert rates_of(module, slices, 7, tmp_path) == pytest.approx(expected)
