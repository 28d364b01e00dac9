"""Slices cut into square patches, and put together again."""

from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into flattened patches in (p, p, C) order.

    Args:
        images: (B, C, H, W), H and W multiples of `patch_size`.
        patch_size: side p of a patch in pixels.

    Returns:
        (B, L, p·p·C), row by row.
    """
    batch, channels, height, width = images.shape
    p = patch_size
    patches = images.reshape(batch, channels, height // p, p, width // p, p)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * p * channels)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Put flattened patches of square images back, the inverse of `patchify`.

    Args:
        patches: (B, L, p·p·C), L a square number.
        patch_size: side p of a patch in pixels.

    Returns:
        (B, C, H, W).
    """
    p, grid = patch_size, round(patches.shape[1] ** 0.5)
    split = patches.reshape(len(patches), grid, grid, p, p, -1)
    return split.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, grid * p, grid * p)
