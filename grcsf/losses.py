"""Segmentation losses [§3.4, Eq. 7–8]. All take logits and compute in float32."""

from collections.abc import Callable

import torch
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss
from torch import Tensor

ALPHA = 0.25
GAMMA = 2.0


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − 2 |x ∩ y| / (|x| + |y|) over the foreground of the whole batch [Eq. 7].

    x are the sigmoid outputs, y the target. 1e-5 stands on both sides of the fraction, so a batch
    without foreground gives 0 for an empty prediction and near 1 otherwise, never 0 / 0.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.

    Returns:
        A scalar in [0, 1], float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = DiceLoss(sigmoid=True, batch=True)(logits.float(), target.float())
    return loss


def focal_loss(
    logits: Tensor, target: Tensor, alpha: float = ALPHA, gamma: float = GAMMA
) -> Tensor:
    """Mean over pixels of −α (1 − p_t)^γ log p_t [Eq. 8].

    p_t is the sigmoid output where the target is 1 and one minus it elsewhere. The equation is
    followed as printed: one α for all pixels, *not* α on lesions and 1 − α on background as in
    the focal-loss paper and in MONAI's `alpha`, which would weigh a lesion pixel a third of a
    background one. So MONAI computes the focal term without its `alpha`, and α multiplies it.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.
        alpha: weight of the loss, 0.25 in the paper.
        gamma: focusing parameter, at least 0; 2 in the paper.

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = alpha * FocalLoss(gamma=gamma)(logits.float(), target.float())
    return loss


def mixed_loss(
    logits: Tensor, target: Tensor, alpha: float = ALPHA, gamma: float = GAMMA
) -> Tensor:
    """Dice loss plus focal loss [Eq. 7]; arguments as in `focal_loss`.

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    return dice_loss(logits, target) + focal_loss(logits, target, alpha, gamma)


LOSSES: dict[str, Callable[..., Tensor]] = {"mixed": mixed_loss, "focal": focal_loss}
"""By the name that a training setting uses: mixed for ATLAS and Lung, focal for orCaScore."""


def _check_shapes(logits: Tensor, target: Tensor) -> None:
    # Broadcasting a (B, h, w) target would give a number, and a wrong one.
    if logits.shape != target.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape"
        )
