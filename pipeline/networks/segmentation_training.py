"""The training of a segmentation network: loss, rates, and what a checkpoint remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import nn

from grcsf.contributions import recorded_contributions, unit_factors, units_of
from grcsf.losses import LOSSES
from grcsf.models.blocks import SegmentationNetwork
from grcsf.schedule import constant, plateau_reductions, polynomial, warmup_cosine
from pipeline.networks.build import arranged
from pipeline.networks.devices import compiled
from pipeline.networks.trainer import augmented
from pipeline.settings import Training


class SegmentationTraining(lightning.LightningModule):
    """The loss of section 3.4 under the schedule of section 4.3, or another method's own.

    (seed, epoch, batch) decides how slices are varied and what drops out, if anything does. With
    `compiling`, the network is compiled for training batches of full size: a smaller last one and
    the validation go through it as it is, since every further shape would be compiled anew.
    """

    def __init__(
        self, network: nn.Module, settings: Training, seed: int, *, compiling: bool = False
    ) -> None:
        super().__init__()
        self.network = arranged(network, settings)
        self._settings = settings
        self._seed = seed
        whole = cast(SegmentationNetwork, network).supervised
        self._of_full_batches = compiled(whole) if compiling else whole
        self._loss = loss_of(settings)
        self._validation_losses: list[float] = []

    @property
    def unit_columns(self) -> tuple[str, ...]:
        """What is logged of the network's units in each epoch (`grcsf.contributions`)."""
        return (*units_of(self.network), *unit_factors(self.network))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with moments 0.9 and 0.999 or others, or SGD, for all weights not frozen."""
        chosen, rate = self._settings, self._settings.learning_rate
        weights = [value for value in self.network.parameters() if value.requires_grad]
        if chosen.optimizer == "adam":
            # gradients that are scaled, as for fp16, it would unscale itself, after clipping
            fused = chosen.precision != "fp16"
            return torch.optim.Adam(weights, lr=rate, betas=chosen.betas, fused=fused)
        momentum, decay = chosen.momentum or 0.0, chosen.weight_decay or 0.0
        return torch.optim.SGD(weights, lr=rate, momentum=momentum, weight_decay=decay)

    def on_train_epoch_start(self) -> None:
        """Set the epoch's learning rate, and forget the optimiser's moments if so chosen."""
        rate = learning_rate(self.current_epoch, self._settings, self._validation_losses)
        optimiser = self.trainer.optimizers[0]
        if self._settings.restart_moments:
            optimiser.state.clear()
        for group in optimiser.param_groups:
            group["lr"] = rate

    def on_before_optimizer_step(self, _optimizer: torch.optim.Optimizer) -> None:
        """Shorten the gradient where it is longer than `clip`."""
        if self._settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.clip)

    def training_step(self, batch: Mapping[str, Any], number: int) -> torch.Tensor:
        """The loss of a batch of slices: of every head that the network has, by its weight."""
        batch = augmented(self, batch, number, self._settings.augment, self._seed)
        # what drops out is the same in a resumed training
        drawn = np.random.SeedSequence([self._seed, self.current_epoch, number, self.global_rank])
        torch.manual_seed(int(drawn.generate_state(1)[0]))
        heads, label = self._heads(batch["image"], batch.get("residuals")), batch["label"]
        if self.trainer.world_size > 1:
            # Dice needs the foreground of the whole batch, of which a process sees a part
            heads = [(weight, self._gathered(logits, sync_grads=True)) for weight, logits in heads]
            label = self._gathered(label)
        losses = [weight * self._loss(logits, label) for weight, logits in heads]
        loss = torch.stack(losses).sum()
        size = len(batch["image"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        """Log the loss of a validation batch, and what the units make of the epoch's first."""
        if number == 0:
            with recorded_contributions(self.network) as contributions:
                logits = self._logits(batch)
            self._log_units({**contributions, **unit_factors(self.network)}, len(logits))
        else:
            logits = self._logits(batch)
        loss = self._loss(logits, batch["label"])
        size = len(batch["image"])
        self.log("validation_loss", loss, batch_size=size, sync_dist=True)

    def _log_units(self, figures: Mapping[str, torch.Tensor], size: int) -> None:
        for name, value in figures.items():
            self.log(name, value.float(), on_epoch=True, batch_size=size, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Remember the loss for the plateau rule."""
        self._validation_losses.append(float(self.trainer.callback_metrics["validation_loss"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the losses that the plateau rule has seen."""
        checkpoint["validation_losses"] = list(self._validation_losses)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the losses that the plateau rule has seen."""
        self._validation_losses = list(checkpoint["validation_losses"])

    def _heads(
        self, image: torch.Tensor, residuals: torch.Tensor | None
    ) -> list[tuple[float, torch.Tensor]]:
        full = len(image) * self.trainer.world_size == self._settings.batch_size
        network = cast(SegmentationNetwork, self.network)
        return (self._of_full_batches if full else network.supervised)(image, residuals)

    def _gathered(self, part: torch.Tensor, sync_grads: bool = False) -> torch.Tensor:
        """The slices of all processes, (B, 1, h, w)."""
        parts: Any = self.all_gather(part, sync_grads=sync_grads)
        whole: torch.Tensor = parts.flatten(0, 1)
        return whole

    def _logits(self, batch: Mapping[str, Any]) -> torch.Tensor:
        logits: torch.Tensor = self.network(batch["image"], batch.get("residuals"))
        return logits  # (B, 1, h, w)


def loss_of(settings: Training) -> Callable[..., torch.Tensor]:
    """The loss of logits and labels that the settings choose, with its weight if it has one."""
    loss = LOSSES[settings.loss]
    if settings.positive_weight is not None:
        return partial(loss, lesion_weight=settings.positive_weight)
    if settings.dice_weight is not None:
        return partial(loss, dice_weight=settings.dice_weight)
    return loss


def learning_rate(epoch: int, settings: Training, validation_losses: Sequence[float]) -> float:
    """The rate of an epoch by the schedule, times `factor` for each plateau on orCaScore."""
    rate, first = settings.learning_rate, settings.warmup_epochs
    match settings.schedule:
        case "cosine":
            rise: Any = {"warmup_epochs": first, "factor": settings.warmup_factor}
            rate = warmup_cosine(epoch, rate, epochs=settings.epochs, **rise)
        case "polynomial":
            rate = polynomial(epoch, rate, warmup_epochs=first, epochs=settings.epochs)
        case "constant":
            rate = constant(epoch, rate, settings.later_rates or ())
    if settings.plateau is None:
        return rate
    reductions = plateau_reductions(validation_losses, settings.plateau.patience)
    return rate * settings.plateau.factor**reductions
