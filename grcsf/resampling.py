"""Slices and maps at another size, bilinear."""

from torch import Tensor
from torch.nn import functional as F


def resize(images: Tensor, size: tuple[int, ...], *, clamp: bool = False) -> Tensor:
    """Bilinear, antialiased where it shrinks: (B, C, y, x) → (B, C, h, w).

    Args:
        images: in any unit; returned as they are where they have the size already.
        size: (h, w) in pixels.
        clamp: limit the result to [0, 1]. Weights are ≥ 0 and sum to 1, so only rounding leaves
            that range, by some 1e-7.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    resized = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0) if clamp else resized


def source_slices(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """A network's output on its source's grid, not antialiased: (B, C, h, w) → (B, C, y, x)."""
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
