"""The training of a masked model: losses, rates, masks, and pictures of its predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from grcsf.mae.adversarial import build_discriminator, discriminator_loss, generator_term, pasted
from grcsf.mae.baselines import average_image, predict_average, predict_patch_means
from grcsf.mae.build import MaskedModel
from grcsf.mae.losses import MASKED_LOSSES
from grcsf.mae.masking import slice_masks, training_masks
from grcsf.mae.optimiser import build_optimiser
from grcsf.mae.precision import compile_layers, multiply_attention
from grcsf.resampling import resize
from grcsf.schedule import cosine_to_zero, linear_warmup, step_decay
from pipeline.networks.trainer import augmented
from pipeline.settings import Mae

log = logging.getLogger(__name__)
Batches = Iterable[Mapping[str, Any]]
SHOWN = 4  # validation slices in a picture


class MaeTraining(lightning.LightningModule):
    """Masked training; (seed, epoch, batch) decides each batch's mask ratio and masks.

    `pictures` is the folder for pictures of validation slices; `compiled` is whether the model's
    layers are compiled first.
    """

    def __init__(
        self,
        model: MaskedModel,
        settings: Mae,
        seed: int,
        pictures: Path,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.discriminator = build_discriminator() if settings.adversarial else None
        # with two networks, the module itself has to step the optimisers
        self.automatic_optimization = settings.adversarial is None
        self._settings = settings
        self._seed = seed
        self._pictures = pictures
        self._compiled = compiled

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The recipe's optimiser, and Adam at a rate of its own for the discriminator, if any."""
        settings = self._settings
        rates = settings.learning_rate, settings.betas, settings.weight_decay or 0.0
        fused = settings.precision != "fp16"
        optimisers = [build_optimiser(self.model, settings.optimizer, *rates, fused=fused)]
        chosen, judge = settings.adversarial, self.discriminator
        if chosen is not None and judge is not None:
            rate = chosen.learning_rate
            optimisers.append(torch.optim.Adam(judge.parameters(), lr=rate, betas=(0.5, 0.999)))
        return list(optimisers)

    def on_fit_start(self) -> None:
        """Choose how the device computes the model's layers."""
        if self.device.type == "cpu":
            multiply_attention(self.model)
        if self._compiled:
            compile_layers(self.model)

    def on_train_batch_start(self, _batch: dict[str, Any], index: int) -> None:
        """Set the step's learning rate."""
        each = int(self.trainer.num_training_batches)
        rate = learning_rate(self.current_epoch, index, each, self._settings)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Shorten the model's gradient where it is longer than `clip`."""
        # here, since Lightning clips for one optimiser only; the discriminator's stays as it is
        if self._settings.clip is not None and optimizer is self.trainer.optimizers[0]:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.clip)

    def on_train_batch_end(self, _outputs: Any, _batch: dict[str, Any], index: int) -> None:
        """End the training after its last step, once it has been validated."""
        # not Lightning's max_steps, which counts those of the discriminator too
        done = self.current_epoch * int(self.trainer.num_training_batches) + index + 1
        if done == self._settings.steps:
            self.trainer.should_stop = True

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor | None:
        """The loss of a batch under masks of one ratio."""
        images = resize(batch["image"], (self._settings.image_size,) * 2)
        chosen = self._settings.augment
        images = augmented(self, {"image": images}, index, chosen, self._seed)["image"]
        generator = torch.Generator().manual_seed(_step_seed(self._seed, self.current_epoch, index))
        ratios = self._settings.train_mask_ratios
        ratio = ratios[int(torch.randint(len(ratios), (1,), generator=generator))]
        # every process draws the masks of the whole batch, and takes those of its own slices,
        # which the sampler deals out in turn
        whole = len(images) * self.trainer.world_size
        masks = training_masks(generator, whole, self.model.num_patches, ratio)
        masks = masks[self.global_rank :: self.trainer.world_size]
        if self.automatic_optimization:
            loss = self._loss(self.model, images, masks)
        else:
            loss = self._adversarial_step(images, masks)
        self._log("train_loss", loss, len(images))
        return loss if self.automatic_optimization else None

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """The loss over all ratios, under masks that are the same in every epoch."""
        images = resize(batch["image"], (self._settings.image_size,) * 2)
        for ratio in self._settings.train_mask_ratios:
            masks = validation_masks(self._seed, index, ratio, len(images), self.model.num_patches)
            loss = self._loss(self.model, images, masks)
            self.log("validation_loss", loss, batch_size=len(images), sync_dist=True)
            if index == 0 and self._is_picture_due():
                self._write_picture(images[:SHOWN], masks[:SHOWN], ratio)

    def _loss(self, model: Any, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return MASKED_LOSSES[self._settings.architecture](model, images, masks)

    def _adversarial_step(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """One step of the model and, later, of the discriminator; the masked loss alone."""
        chosen = self._settings.adversarial
        assert chosen is not None
        assert self.discriminator is not None
        for_model, for_discriminator = self.optimizers()  # type: ignore[attr-defined]
        predictions = self.model(images, masks)
        loss = self._loss(lambda *_: predictions, images, masks)
        total, is_adversarial = loss, self.current_epoch >= chosen.start_epoch
        reconstructions = pasted(predictions, images, masks)
        if is_adversarial:
            self.discriminator.requires_grad_(False)
            term = generator_term(self.discriminator, reconstructions)
            self.discriminator.requires_grad_(True)
            # when the term has diverged, only the masked loss trains the model
            if self._finite_everywhere(term):
                total = loss + chosen.weight * term
            self._log("adversarial_loss", term, len(images))
        self._step(for_model, total)
        if is_adversarial:
            judgement = discriminator_loss(self.discriminator, reconstructions, images)
            if self._finite_everywhere(judgement):
                self._step(for_discriminator, judgement)
            self._log("discriminator_loss", judgement, len(images))
        return loss.detach()

    def _finite_everywhere(self, value: torch.Tensor) -> bool:
        """Whether the value is finite in every process; all have to skip a step together."""
        gathered: Any = self.all_gather(value.detach())
        return bool(torch.isfinite(gathered).all())

    def _step(self, optimiser: Any, loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()

    def _log(self, name: str, value: torch.Tensor, count: int) -> None:
        self.log(name, value, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)

    def _is_picture_due(self) -> bool:
        every = self._settings.picture_epochs
        return bool(every) and self.current_epoch % every == 0 and self.trainer.is_global_zero

    def _write_picture(self, images: torch.Tensor, masks: torch.Tensor, ratio: float) -> None:
        """Write slices, visible patches and reconstructions as a PNG, and to TensorBoard."""
        with torch.no_grad():
            reconstructions = pasted(self.model(images, masks), images, masks)
        picture = reconstruction_picture(images, masks, reconstructions, self.model)
        self._pictures.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{self.current_epoch + 1:04d}-masked-{round(100 * ratio)}.png"
        grey = np.nan_to_num(256 * picture).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).save(self._pictures / name)
        if isinstance(self.logger, TensorBoardLogger):
            title = f"reconstructions, {ratio:.0%} masked"
            self.logger.experiment.add_image(title, picture, self.current_epoch, dataformats="HW")


def learning_rate(epoch: int, index: int, each: int, settings: Mae) -> float:
    """The rate of step `index` of an epoch with `each` steps."""
    step, steps = epoch * each + index, settings.steps or (settings.epochs or 0) * each
    warmup_steps = round(settings.warmup * steps)
    if settings.schedule == "cosine":
        rate = cosine_to_zero(step, settings.learning_rate, warmup_steps=warmup_steps, steps=steps)
    else:
        rate = step_decay(epoch, settings.learning_rate, settings.decay, settings.decay_epochs)
    return rate * linear_warmup(step, warmup_steps)


def validation_masks(seed: int, batch: int, ratio: float, rows: int, patches: int) -> torch.Tensor:
    """A validation batch's masks, the same in every epoch: (B, L) bool, 1 = masked."""
    drawn: Any = {"seed": seed, "case": f"validation batch {batch}", "mask_ratio": ratio}
    drawn |= {"passes": 1, "patches": patches, "scheme": "random"}
    return torch.from_numpy(
        np.concatenate([slice_masks(**drawn, slice_index=row) for row in range(rows)])
    )


def reconstruction_picture(
    images: torch.Tensor, masks: torch.Tensor, reconstructions: torch.Tensor, model: MaskedModel
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A row for each slice: the slice, its visible patches on grey, its reconstruction.

    `images` and `reconstructions` are (B, 1, H, W) in [0, 1], `masks` is (B, L), 1 = masked; the
    picture is (B·H, 3·W) float32 in [0, 1].
    """
    hidden = masks.to(images.device).unsqueeze(-1).expand(-1, -1, model.patch_size**2)
    shown = torch.where(model.unpatchify(hidden), torch.full_like(images, 0.5), images)
    columns = torch.cat([images, shown, reconstructions.clamp(0, 1)], dim=-1)  # (B, 1, H, 3·W)
    rows = columns[:, 0].flatten(0, 1)  # (B·H, 3·W)
    return rows.float().cpu().numpy()


def baseline_losses(
    train: Batches, validation: Batches, settings: Mae, seed: int
) -> dict[str, float]:
    """Validation losses of the average training slice, and of every patch's own mean.

    Slices, masks and the loss are those of the training's `validation_loss`.
    """
    average = average_image(_images(train, settings))
    loss = MASKED_LOSSES[settings.architecture]
    patch, patches = settings.patch_size, (settings.image_size // settings.patch_size) ** 2
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    for index, images in enumerate(_images(validation, settings)):
        guesses = predict_average(average, len(images), patch), predict_patch_means(images, patch)
        for ratio in settings.train_mask_ratios:
            masks = validation_masks(seed, index, ratio, len(images), patches)
            losses = [loss(lambda *_, guess=guess: guess, images, masks) for guess in guesses]
            sums += len(images) * torch.stack(losses).double()
            count += len(images)
    average_slice, patch_mean = (sums / count).tolist()
    return {"average_slice": average_slice, "patch_mean": patch_mean}


def _images(batches: Batches, settings: Mae) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield resize(batch["image"], (settings.image_size,) * 2)


def _step_seed(seed: int, epoch: int, batch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0] >> 1)
