"""Masked models by name: architectures and sizes."""

from grcsf.mae.losses import MASKED_LOSSES
from grcsf.mae.model import PRESETS, MaskedAutoencoder, build_mae
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
