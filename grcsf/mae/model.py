"""The masked autoencoder: a ViT that sees some patches of a slice and predicts the others.

He et al. 2022; paper, section 3.3.1. The state dict has the public MAE's key names, so that public
checkpoints load as they are.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from grcsf.autocast import without_autocast
from grcsf.mae.patches import patchify, unpatchify
from grcsf.mae.transformer import PatchEmbedding, TransformerLayer
from grcsf.transfer import send


class MaeShape(NamedTuple):
    """Widths, depths and heads of a masked autoencoder."""

    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


PRESETS = {
    "large": MaeShape(1024, 24, 16, 512, 8, 16),
    "base": MaeShape(768, 12, 12, 512, 8, 16),
    "small": MaeShape(384, 12, 6, 256, 4, 8),
    "tiny": MaeShape(192, 6, 3, 128, 2, 4),
}


class MaskedAutoencoder(nn.Module):
    """ViT encoder over the visible patches, shallow ViT decoder over all of them.

    Args:
        shape: widths, depths and heads.
        image_size: side of the square input in pixels, a multiple of `patch_size`.
        patch_size: side p of a square patch in pixels.
        in_channels: image channels C.

    Raises:
        ValueError: `image_size` is no multiple of `patch_size`.
    """

    encoder, head = "blocks", "decoder_pred"  # names of these parts

    def __init__(
        self, shape: MaeShape, *, image_size: int = 224, patch_size: int = 16, in_channels: int = 1
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is no multiple of patch size {patch_size}")
        self.shape = shape
        self.image_size = image_size
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.num_patches = (image_size // patch_size) ** 2
        grid = image_size // patch_size

        self.patch_embed = PatchEmbedding(patch_size, in_channels, shape.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = _fixed(sincos_position_embedding(shape.width, grid))
        self.blocks = _blocks(shape.width, shape.depth, shape.heads)
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)

        self.decoder_embed = nn.Linear(shape.width, shape.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.decoder_width))
        self.decoder_pos_embed = _fixed(sincos_position_embedding(shape.decoder_width, grid))
        self.decoder_blocks = _blocks(shape.decoder_width, shape.decoder_depth, shape.decoder_heads)
        self.decoder_norm = nn.LayerNorm(shape.decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(shape.decoder_width, patch_size**2 * in_channels)
        if not self.cls_token.is_meta:  # which has no values, and where torch imports its compiler
            self._initialise()

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict every patch of the images from the patches that are not masked.

        Args:
            images: (B, C, H, W), in [0, 1], H = W = `image_size`.
            masks: (B, L) bool, 1 = masked; every row masks the same number of patches.

        Returns:
            (B, L, p·p·C): a prediction for every patch; those of visible patches are untrained.

        Raises:
            ValueError: images or masks of another shape, or rows that mask different numbers.
        """
        tokens = self.embed(images)  # (B, L, D)
        latents = self.encode(tokens, masks)  # (B, 1 + visible, D)
        return self.decode(latents, masks)

    def embed(self, images: Tensor) -> Tensor:
        """Patch tokens with their positions: (B, C, H, W) → (B, L, D)."""
        expected = (self.in_channels, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images are {tuple(images.shape)}, expected (B, {expected})")
        with without_autocast(images):
            tokens: Tensor = self.patch_embed(images)
            return tokens + self.pos_embed[:, 1:]

    def encode(self, tokens: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible tokens, each image under K masks at once.

        Args:
            tokens: (B, L, D), embedded once per image.
            masks: (B·K, L) bool, 1 = masked; the K masks of an image follow one another.

        Returns:
            (B·K, 1 + visible, D): the class token's and the visible tokens' latents.

        Raises:
            ValueError: masks do not fit the tokens, or rows mask different numbers.
        """
        batch, patches, width = tokens.shape
        if masks.ndim != 2 or masks.shape[1] != patches or len(masks) % batch:
            raise ValueError(f"masks are {tuple(masks.shape)}, expected ({batch}·K, {patches})")
        visible = send(visible_indices(masks), tokens.device)  # (B·K, V)
        index = visible.reshape(batch, -1, 1).expand(-1, -1, width)  # (B, K·V, D)
        seen = tokens.gather(1, index).reshape(len(masks), -1, width)  # (B·K, V, D)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(masks), -1, -1)
        latents = torch.cat([cls, seen], dim=1)
        for block in self.blocks:
            latents = block(latents)
        encoded: Tensor = self.norm(latents)
        return encoded

    def decode(self, latents: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches from latents: (N, 1 + visible, D), masks (N, L) → (N, L, p·p·C)."""
        tokens = self.decoder_embed(latents)  # (N, 1 + V, D')
        visible = send(visible_indices(masks), tokens.device)
        index = visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        filled = self.mask_token.to(tokens.dtype).expand(*masks.shape, -1)  # (N, L, D')
        filled = filled.scatter(1, index, tokens[:, 1:])
        tokens = torch.cat([tokens[:, :1], filled], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        with without_autocast(tokens):
            tokens = tokens[:, 1:].to(self.decoder_pred.weight.dtype)
            predictions: Tensor = self.decoder_pred(self.decoder_norm(tokens))
        return predictions

    def predict_passes(self, images: Tensor, masks: Tensor) -> Tensor:
        """`forward` of each image under K masks, embedded once.

        Args:
            images: (B, C, H, W), in [0, 1].
            masks: (B, K, L) bool, 1 = masked.

        Returns:
            (B·K, L, p·p·C).
        """
        flat = masks.flatten(0, 1)  # (B·K, L)
        return self.decode(self.encode(self.embed(images), flat), flat)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.patch_embed.proj.weight.dtype

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images into flattened patches in (p, p, C) order: (B, C, H, W) → (B, L, p·p·C)."""
        return patchify(images, self.patch_size)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Put flattened patches back, the inverse of `patchify`: (B, L, p·p·C) → (B, C, H, W)."""
        return unpatchify(patches, self.patch_size)

    def _initialise(self) -> None:
        """Xavier-uniform weights, zero biases, N(0, 0.02²) tokens (He et al. 2022, appendix)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # A patch embedding is a linear map of flattened patches; its fan-in must be counted so.
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)


def build_mae(
    preset: str, *, image_size: int = 224, patch_size: int = 16, in_channels: int = 1
) -> MaskedAutoencoder:
    """A masked autoencoder of a named shape, with fresh weights.

    Args:
        preset: one of `PRESETS`; `large` is the paper's ViT-L/16 (section 4.3).
        image_size: side of the square input in pixels.
        patch_size: side of a patch in pixels.
        in_channels: image channels.

    Raises:
        ValueError: unknown preset, or `image_size` is no multiple of `patch_size`.
    """
    if preset not in PRESETS:
        raise ValueError(f"no MAE preset is called {preset!r}; there are: {', '.join(PRESETS)}")
    return MaskedAutoencoder(
        PRESETS[preset], image_size=image_size, patch_size=patch_size, in_channels=in_channels
    )


def visible_indices(masks: Tensor) -> Tensor:
    """Positions of the visible patches in ascending order.

    Args:
        masks: (N, L) bool, 1 = masked.

    Returns:
        (N, V) int64.

    Raises:
        ValueError: not bool, or rows mask different numbers, all or none of their patches.
    """
    if masks.dtype != torch.bool:
        raise ValueError(f"masks are {masks.dtype}, expected torch.bool (1 = masked)")
    counts = (~masks).sum(dim=1)
    fewest, most = int(counts.min()), int(counts.max())
    if fewest != most:
        raise ValueError(f"masks leave {fewest} to {most} patches visible, expected equal rows")
    if fewest in (0, masks.shape[1]):
        raise ValueError(f"masks leave {fewest} of {masks.shape[1]} patches visible")
    # Visible (0) sorts before masked (1); stable, so each keeps its order on every device.
    return masks.to(torch.uint8).argsort(dim=1, stable=True)[:, :fewest]


def sincos_position_embedding(width: int, grid: int) -> Tensor:
    """Fixed 2D sine-cosine position embeddings, a zero row for the class token first.

    The first half of the channels encodes the column (x), the second the row (y), as in the public
    MAE's checkpoints; each half is sines, then cosines, at frequencies 10000^(-4i / width).

    Args:
        width: channels D, a multiple of 4.
        grid: patches along a side.

    Returns:
        (1, 1 + grid², D) float32.

    Raises:
        ValueError: `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width {width} is no multiple of 4")
    # on the CPU, as a network that is built without values (on `meta`) draws none either
    steps = torch.arange(width // 4, dtype=torch.float64, device="cpu")
    places = torch.arange(grid, dtype=torch.float64, device="cpu")
    frequencies = 10000.0 ** (-steps / (width // 4))
    angles = places[:, None] * frequencies  # (grid, D / 4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, D / 2)
    columns = axis[None, :].expand(grid, -1, -1)
    rows = axis[:, None].expand(-1, grid, -1)
    patches = torch.cat([columns, rows], dim=-1).reshape(1, grid * grid, width)
    return torch.cat([patches.new_zeros(1, 1, width), patches], dim=1).float()


def _blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList(TransformerLayer(width, heads) for _ in range(depth))


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(torch.get_default_device()), requires_grad=False)
