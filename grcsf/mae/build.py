"""Masked models by name: architectures, sizes, and the training loss of each."""

from collections.abc import Callable

from torch import Tensor, nn

from grcsf.mae.model import PRESETS, MaskedAutoencoder, build_mae, masked_mse
from grcsf.mae.patches import patchify
from grcsf.mae.simmim import SimMim

MaskedModel = MaskedAutoencoder | SimMim


def build_masked_model(
    architecture: str, preset: str, *, image_size: int = 224, patch_size: int = 16
) -> MaskedModel:
    """A masked model of a named shape for one-channel slices, with fresh weights.

    Args:
        architecture: `mae` (the paper) or `simmim` (Table 7), an encoder of the preset's shape.
        preset: one of `PRESETS`.
        image_size: side of the square input in pixels.
        patch_size: side of a patch in pixels.

    Raises:
        ValueError: unknown architecture or preset, or `image_size` no multiple of `patch_size`.
    """
    if architecture == "mae":
        return build_mae(preset, image_size=image_size, patch_size=patch_size)
    if architecture != "simmim":
        known = ", ".join(MASKED_LOSSES)
        raise ValueError(f"no masked model is called {architecture!r}; there are: {known}")
    if preset not in PRESETS:
        raise ValueError(f"no preset is called {preset!r}; there are: {', '.join(PRESETS)}")
    shape = PRESETS[preset]
    return SimMim(
        shape.width, shape.depth, shape.heads, image_size=image_size, patch_size=patch_size
    )


def masked_l1(model: Callable[[Tensor, Tensor], Tensor], images: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute error over the masked patches' pixels, SimMIM's training loss.

    Args:
        model: predicts (B, L, p·p) of images and masks.
        images: (B, 1, H, W), in [0, 1].
        masks: (B, L) bool, 1 = masked.

    Returns:
        A scalar, in float32 whatever the model computes in.
    """
    predictions = model(images, masks).float()
    targets = patchify(images.float(), round(predictions.shape[-1] ** 0.5))
    chosen = masks.to(predictions.device)
    return nn.functional.l1_loss(predictions[chosen], targets[chosen])


MASKED_LOSSES = {"mae": masked_mse, "simmim": masked_l1}
"""The loss of each architecture: (model, images, masks) → scalar."""
