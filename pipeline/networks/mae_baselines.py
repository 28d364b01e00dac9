"""What a trained masked model predicts better than predictions that need no learning."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from grcsf.mae.baselines import average_image, predict_average, predict_patch_means
from grcsf.mae.build import MASKED_LOSSES
from grcsf.resampling import resize
from pipeline.networks.history import History
from pipeline.networks.mae_training import validation_masks
from pipeline.settings import Mae

log = logging.getLogger(__name__)
Batches = Iterable[Mapping[str, Any]]


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


def compare(title: str, history: History, baselines: Mapping[str, float]) -> dict[str, float]:
    """Tell how a training's last validation loss compares; what the model's record keeps of it.

    Empty where the history's last epoch is lost.
    """
    if not history:
        log.warning("%s: its history is lost, so what it has learnt is not known", title)
        return {}
    masked, average = history[-1]["validation_loss"], baselines["average_slice"]
    figures = f"{title}: masked loss {masked:.4f}; average slice {average:.4f}; "
    figures += f"patch's own mean {baselines['patch_mean']:.4f}"
    if masked < average:
        log.info("%s: %.0f %% below the average slice", figures, 100 * (1 - masked / average))
    else:
        log.warning(
            "%s: it has not learnt healthy tissue, expected a masked loss below the average "
            "slice's; train for more steps, with recipe: mae, or on more slices",
            figures,
        )
    return {"masked_loss": masked, **baselines}
