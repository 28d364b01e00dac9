"""Segmentation losses [§3.4, Eq. 7–8; a peer's own]. All take logits and compute in float32."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from grcsf.autocast import without_autocast

SMOOTHING = 1e-5
ALPHA = 0.25
GAMMA = 2.0
LESION_WEIGHT = 1.5
BACKGROUND_WEIGHT = 0.5
EDGE, EDGE_WEIGHT = 31, 5.0
"""Pixels of the side of the square around each pixel, and what a pixel at an edge weighs more."""


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 − 2 |x ∩ y| / (|x| + |y|) over the foreground of the whole batch [Eq. 7].

    x are the sigmoid outputs, y the target; |x ∩ y| = Σ x y, |x| = Σ x. 1e-5 stands on both sides
    of the fraction, so a batch without foreground gives 0 for an empty prediction and near 1
    otherwise, never 0 / 0. The same to the bit as MONAI's `DiceLoss(sigmoid=True, batch=True)`.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.

    Returns:
        A scalar in [0, 1], float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with without_autocast(logits):
        predicted, reference = torch.sigmoid(logits.float()), target.float()
        axes = (0, 2, 3)  # a sum for the one channel
        common = (predicted * reference).sum(axes)
        extra = (predicted.sum(axes) - common) * 0.5
        missed = (reference.sum(axes) - common) * 0.5
        ratio = (2 * common + SMOOTHING) / (2 * (common + extra + missed) + SMOOTHING)
        return (1 - ratio).mean()


def focal_loss(
    logits: Tensor, target: Tensor, alpha: float = ALPHA, gamma: float = GAMMA
) -> Tensor:
    """Mean over pixels of −α (1 − p_t)^γ log p_t [Eq. 8].

    p_t is the sigmoid output where the target is 1 and one minus it elsewhere. The equation is
    followed as printed: one α for all pixels, *not* α on lesions and 1 − α on background as in
    the focal-loss paper, which would weigh a lesion pixel a third of a background one. The same to
    the bit as α times MONAI's `FocalLoss(gamma=gamma)`, which has no `alpha` then. Logarithms of
    sigmoids stay finite where sigmoids are rounded to 0 or 1.

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
    with without_autocast(logits):
        values, reference = logits.float(), target.float()
        log_right = values * reference - values + F.logsigmoid(values)  # log p_t
        log_wrong = F.logsigmoid(-values * (reference * 2 - 1))  # log (1 − p_t)
        return alpha * ((log_wrong * gamma).exp() * -log_right).mean()


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


def cross_entropy_loss(
    logits: Tensor, target: Tensor, lesion_weight: float = LESION_WEIGHT
) -> Tensor:
    """Mean over pixels of −w log p_t, the loss that SPiN was published with.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.
        lesion_weight: w of lesion pixels, at least 0; those of background have 1. The mean divides
            by the number of pixels, not by their weights.

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with without_autocast(logits):
        weight = torch.tensor(lesion_weight, dtype=torch.float32, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits.float(), target.float(), pos_weight=weight)


def dice_cross_entropy_loss(logits: Tensor, target: Tensor, dice_weight: float) -> Tensor:
    """(1 − w) · cross-entropy + w · Dice loss [Eq. 7], as SwinUnet (0.6) and TransUnet (0.5).

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.
        dice_weight: w, in [0, 1].

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    cross_entropy = cross_entropy_loss(logits, target, lesion_weight=1.0)
    return (1 - dice_weight) * cross_entropy + dice_weight * dice_loss(logits, target)


def tversky_cross_entropy_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in which background weighs half, plus 1 − TP / (TP + α FP + (1 − α) FN).

    As UTNet's: TP, FP and FN are sums of sigmoid outputs over the batch, and α = FP / (FP + FN) in
    [0.2, 0.8], so that the more frequent fault weighs more. α is a number, without a gradient. The
    cross-entropy is a mean by weight.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with without_autocast(logits):
        values, reference = logits.float(), target.float()
        weight = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * reference
        each = F.binary_cross_entropy_with_logits(values, reference, reduction="none")
        predicted = torch.sigmoid(values)
        common = (predicted * reference).sum()
        extra, missed = predicted.sum() - common, reference.sum() - common
        share = (extra / (extra + missed + SMOOTHING)).clamp(0.2, 0.8).detach()
        faults = share * extra + (1 - share) * missed
        # as in `dice_loss`: a batch without lesion gives 0 for an empty prediction
        index = (common + SMOOTHING) / (common + faults + SMOOTHING)
        return (weight * each).sum() / weight.sum() + 1 - index


def structure_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus one minus IoU, in which pixels at edges weigh more, as TransFuse's.

    A pixel's weight is 1 + 5 |m̄ − m|: m is the label and m̄ its mean over 31×31 pixels, with zeros
    beyond the slice. Both terms are taken slice by slice, with 1 on both sides of the IoU's
    fraction.

    Args:
        logits: `(B, 1, h, w)`, any float dtype.
        target: `(B, 1, h, w)`, 0 or 1, any dtype.

    Returns:
        A scalar, at least 0, float32.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    with without_autocast(logits):
        values, reference = logits.float(), target.float()
        mean = F.avg_pool2d(reference, EDGE, stride=1, padding=EDGE // 2)
        weight = 1 + EDGE_WEIGHT * (mean - reference).abs()
        each = F.binary_cross_entropy_with_logits(values, reference, reduction="none")
        predicted, axes = torch.sigmoid(values), (1, 2, 3)
        common = (weight * predicted * reference).sum(axes)
        either = (weight * (predicted + reference)).sum(axes) - common
        cross_entropy = (weight * each).sum(axes) / weight.sum(axes)
        return (cross_entropy + 1 - (common + 1) / (either + 1)).mean()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mixed": mixed_loss,
    "focal": focal_loss,
    "cross_entropy": cross_entropy_loss,
    "dice_cross_entropy": dice_cross_entropy_loss,
    "tversky_cross_entropy": tversky_cross_entropy_loss,
    "structure": structure_loss,
}
"""By the name that a training setting uses: mixed for ATLAS and Lung, focal for orCaScore."""


def _check_shapes(logits: Tensor, target: Tensor) -> None:
    # Broadcasting a (B, h, w) target would give a number, and a wrong one.
    if logits.shape != target.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape"
        )
