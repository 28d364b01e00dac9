"""The losses of masked training: over hidden patches alone."""

from collections.abc import Callable

from torch import Tensor, nn

from grcsf.mae.patches import patchify
from grcsf.transfer import send


def masked_mse(model: Callable[[Tensor, Tensor], Tensor], images: Tensor, masks: Tensor) -> Tensor:
    """Mean squared error over the masked patches' pixels, the MAE's training loss (section 4.3).

    Args:
        model: a `MaskedAutoencoder`.
        images: (B, C, H, W), in [0, 1].
        masks: (B, L) bool, 1 = masked.

    Returns:
        A scalar, in float32 whatever the model computes in.
    """
    return nn.functional.mse_loss(*masked_patches(model, images, masks))


def masked_l1(model: Callable[[Tensor, Tensor], Tensor], images: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute error over the masked patches' pixels, SimMIM's training loss.

    Args:
        model: predicts (B, L, p·p) of images and masks.
        images: (B, 1, H, W), in [0, 1].
        masks: (B, L) bool, 1 = masked.

    Returns:
        A scalar, in float32 whatever the model computes in.
    """
    return nn.functional.l1_loss(*masked_patches(model, images, masks))


def masked_patches(
    model: Callable[[Tensor, Tensor], Tensor], images: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor]:
    """The predictions of masked patches, and what they should be.

    Args:
        model: predicts (B, L, p·p·C) of images and masks.
        images: (B, C, H, W), in [0, 1].
        masks: (B, L) bool, 1 = masked. On the CPU they need no wait for a graphics card's queue,
            which has to end before the card can say how many patches they mask.

    Returns:
        Two of (masked, p·p·C) float32, whatever the model computes in.
    """
    predictions = model(images, masks).float()
    # Derived from shapes, not read from the model, so that a wrapped (DDP, compiled) model serves.
    patch_values, channels = predictions.shape[-1], images.shape[1]
    patch_size = round((patch_values // channels) ** 0.5)
    targets = patchify(images.float(), patch_size)
    rows = send(masks.flatten().nonzero()[:, 0], predictions.device)
    return predictions.flatten(0, 1)[rows], targets.flatten(0, 1)[rows]


MASKED_LOSSES = {"mae": masked_mse, "simmim": masked_l1}
"""The loss of each architecture: (model, images, masks) → scalar."""
