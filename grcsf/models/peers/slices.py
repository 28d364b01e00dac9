"""Slices as networks expect them that were built for photographs of one size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from grcsf.models.normalisation import Normalisation

COLOURS = 3
"""Channels of a photograph."""


def repeat_slice(image: Tensor, normalisation: Normalisation | None = None) -> Tensor:
    """The slice three times, then the maps that follow it: `(B, 1 + M, h, w)` → `(B, 3 + M, h, w)`.

    Without `normalisation` what a first convolution expects beyond [0, 1] it has to learn.
    """
    repeated = torch.cat([image[:, :1].expand(-1, COLOURS, -1, -1), image[:, 1:]], dim=1)
    return repeated if normalisation is None else normalisation(repeated)


def pad_to_size(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad with zeros at the bottom and the right: `(B, C, h, w)` → `(B, C, *size)`.

    Raises:
        ValueError: if the slice is larger.
    """
    bottom, right = size[0] - image.shape[-2], size[1] - image.shape[-1]
    if bottom < 0 or right < 0:
        raise ValueError(
            f"this network is built for slices of up to {size[0]}×{size[1]} pixels, found "
            f"{image.shape[-2]}×{image.shape[-1]}; build it with a larger input_size"
        )
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image
