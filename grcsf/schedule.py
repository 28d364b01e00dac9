"""Learning rates per epoch (section 4.3), from what is known at its start."""

import math
from collections.abc import Sequence


def step_decay(epoch: int, rate: float, decay: float, every: int) -> float:
    """MAE: the rate, times `decay` once every `every` epochs (0.9 every 50)."""
    return rate * decay ** (epoch // every)


def warmup_cosine(
    epoch: int, rate: float, *, warmup_epochs: int, factor: float, epochs: int
) -> float:
    """Segmentation: half a cosine up from `rate` to `factor`·`rate`, then half a cosine down to 0.

    The peak is at the start of epoch `warmup_epochs`; epoch `epochs` would have the rate 0.
    """
    if epoch < warmup_epochs:
        risen = (1 - math.cos(math.pi * epoch / warmup_epochs)) / 2
        return rate * (1 + (factor - 1) * risen)
    left = (epoch - warmup_epochs) / max(1, epochs - warmup_epochs)
    return rate * factor * (1 + math.cos(math.pi * min(left, 1.0))) / 2


def plateau_reductions(validation_losses: Sequence[float], patience: int) -> int:
    """How often the loss stands still `patience` epochs in a row (orCaScore: 5, × 0.5)."""
    best = math.inf
    waited = reductions = 0
    for loss in validation_losses:
        if loss < best:
            best, waited = loss, 0
            continue
        waited += 1
        if waited == patience:
            reductions, waited = reductions + 1, 0
    return reductions
