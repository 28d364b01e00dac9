"""Learning rates (section 4.3): per epoch or per step, from what is known at its start."""

import math
from collections.abc import Sequence

POWER = 0.9


def step_decay(epoch: int, rate: float, decay: float, every: int) -> float:
    """MAE: the rate, times `decay` once every `every` epochs (0.9 every 50)."""
    return rate * decay ** (epoch // every)


def linear_warmup(step: int, steps: int) -> float:
    """The share of its rate that a step trains with: 1 / `steps`, 2 / `steps` … 1, and then 1."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine_to_zero(step: int, rate: float, *, warmup_steps: int, steps: int) -> float:
    """Masked training: half a cosine down from `rate` at step `warmup_steps`, 0 at step `steps`."""
    left = (step - warmup_steps) / max(1, steps - warmup_steps)
    return rate * (1 + math.cos(math.pi * min(max(left, 0.0), 1.0))) / 2


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


def polynomial(epoch: int, rate: float, *, warmup_epochs: int, epochs: int) -> float:
    """`rate` times (1 − epoch / epochs)^0.9, as SwinUnet, TransUnet and UTNet are trained.

    The first `warmup_epochs` rise exponentially, from e^−10 of `rate`, which UTNet's do.
    """
    if epoch < warmup_epochs:
        return rate * math.exp(10 * (epoch / warmup_epochs - 1))
    left: float = (1 - epoch / epochs) ** POWER
    return rate * left


def constant(epoch: int, rate: float, later: Sequence[tuple[int, float]] = ()) -> float:
    """`rate` until the first epoch of `later`, (epoch, rate) in order, and then each of these."""
    return [rate, *(other for begin, other in later if begin <= epoch)][-1]


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
