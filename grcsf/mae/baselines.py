"""Predictions that need no learning, which a masked model has to beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from grcsf.mae.patches import patchify


def average_image(batches: Iterable[Tensor]) -> Tensor:
    """The mean of all images, in one pass.

    Args:
        batches: (B, 1, H, W) each, in [0, 1].

    Returns:
        (1, 1, H, W) float32.

    Raises:
        ValueError: no image.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for images in batches:
        # float32 would lose small differences over many slices
        total = total + images.double().sum(dim=0, keepdim=True)
        count += len(images)
    if not count:
        raise ValueError("found no image to average")
    return (total / count).float()


def predict_average(average: Tensor, count: int, patch_size: int) -> Tensor:
    """The average image as the prediction of `count` images: (1, 1, H, W) → (B, L, p·p)."""
    return patchify(average, patch_size).expand(count, -1, -1)


def predict_patch_means(images: Tensor, patch_size: int) -> Tensor:
    """Every patch's own mean in all its pixels: (B, 1, H, W) → (B, L, p·p).

    No constant has a lower squared error; a model that knows no more than brightness ends there.
    """
    patches = patchify(images.float(), patch_size)
    return patches.mean(dim=-1, keepdim=True).expand_as(patches)
