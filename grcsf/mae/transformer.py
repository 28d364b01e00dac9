"""The parts of a vision transformer (Dosovitskiy et al. 2021): patches to tokens, and its layers.

They are timm's `PatchEmbed`, `Attention` and `Block` of one fixed kind, written out: the same
weights under the same names, drawn in the same order, and the same values to the bit. To import
them from timm takes longer than to import torch: its networks come along.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbedding(nn.Module):
    """A linear map of every patch to a token: (B, C, H, W) → (B, L, D).

    Args:
        patch_size: side p of a square patch in pixels.
        in_channels: image channels C.
        width: D.
    """

    def __init__(self, patch_size: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, L, D), patches row by row."""
        tokens: Tensor = self.proj(images)  # (B, D, H / p, W / p)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention: (N, L, D) → (N, L, D).

    Args:
        width: D, a multiple of `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fused = True
        """Whether one call of torch makes both products and the softmax between them."""
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """softmax(q kᵀ / √d) v of every head, joined and projected."""
        batch, length, width = tokens.shape
        split = self.qkv(tokens).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, d) each
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            scale = (width // self.heads) ** -0.5
            mixed = (q * scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return projected


class Perceptron(nn.Module):
    """Two linear layers with a GELU between: (N, L, D) → (N, L, D), 4·D wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) → (N, L, D)."""
        changed: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return changed


class TransformerLayer(nn.Module):
    """Attention, then a perceptron, each on normalised tokens and added to them: (N, L, D).

    Args:
        width: D, a multiple of `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) → (N, L, D)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        changed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return changed
