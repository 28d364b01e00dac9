"""SimMIM: a ViT that sees a slice whose masked patches are replaced by a learnt token (Table 7).

Xie et al. 2022. The network is transformers'. It has the masked autoencoder's interface here, so
that training and residual maps work with either.
"""

import torch
from torch import Tensor, nn

from grcsf.autocast import without_autocast
from grcsf.mae.patches import patchify, unpatchify
from grcsf.transfer import send


class SimMim(nn.Module):
    """transformers' `ViTForMaskedImageModeling` for one-channel slices.

    Args:
        width: channels of a token.
        depth: blocks.
        heads: attention heads.
        image_size: side of the square input in pixels, a multiple of `patch_size`.
        patch_size: side p of a square patch in pixels.

    Raises:
        ValueError: `image_size` is no multiple of `patch_size`.
    """

    in_channels = 1
    encoder, head = "network.vit", "network.decoder"  # names of these parts

    def __init__(
        self, width: int, depth: int, heads: int, *, image_size: int = 224, patch_size: int = 16
    ) -> None:
        # Imported here: transformers takes seconds to import, and nothing else needs it.
        from transformers import ViTConfig, ViTForMaskedImageModeling

        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is no multiple of patch size {patch_size}")
        self.image_size = image_size
        self.patch_size = patch_size
        self.num_patches = (image_size // patch_size) ** 2
        config = ViTConfig(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            image_size=image_size,
            patch_size=patch_size,
            num_channels=self.in_channels,
            encoder_stride=patch_size,
        )
        self.network = ViTForMaskedImageModeling(config)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        weights: torch.dtype = self.network.dtype
        return weights

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict every patch of the images from those that are not masked.

        Args:
            images: (B, 1, H, W), in [0, 1], H = W = `image_size`.
            masks: (B, L) bool, 1 = masked.

        Returns:
            (B, L, p·p): a prediction for every patch; those of visible patches are untrained.

        Raises:
            ValueError: images or masks of another shape.
        """
        expected = (self.in_channels, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images are {tuple(images.shape)}, expected (B, {expected})")
        if tuple(masks.shape) != (len(images), self.num_patches):
            wanted = (len(images), self.num_patches)
            raise ValueError(f"masks are {tuple(masks.shape)}, expected {wanted}")
        hidden = self.network.vit(images, bool_masked_pos=send(masks, images.device))
        tokens = hidden.last_hidden_state[:, 1:]  # (B, L, D)
        grid = self.image_size // self.patch_size
        latents = tokens.transpose(1, 2).reshape(len(images), -1, grid, grid)  # (B, D, g, g)
        with without_autocast(latents):
            decoder = self.network.decoder
            return self.patchify(decoder(latents.to(decoder[0].weight.dtype)))

    def predict_passes(self, images: Tensor, masks: Tensor) -> Tensor:
        """`forward` of each image under K masks: (B, 1, H, W), (B, K, L) → (B·K, L, p·p)."""
        predictions: Tensor = self(images.repeat_interleave(masks.shape[1], 0), masks.flatten(0, 1))
        return predictions

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images into flattened patches: (B, 1, H, W) → (B, L, p·p)."""
        return patchify(images, self.patch_size)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Put flattened patches back, the inverse of `patchify`: (B, L, p·p) → (B, 1, H, W)."""
        return unpatchify(patches, self.patch_size)
