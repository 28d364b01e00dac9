"""Attention of UTNet: pixels look at a few cells of a map, not at every other pixel.

The cost so grows with the number of pixels, not with its square.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resized(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """`(B, C, h, w)` → `(B, C, *size)`; the corner pixels keep their centres."""
    return F.interpolate(features, size, mode="bilinear", align_corners=True)


class CellAttention(nn.Module):
    """Attention of every pixel to the cells of a coarse grid, with a learnt bias by position.

    Args:
        channels: C, a multiple of `heads`.
        heads: they are interleaved: channel c belongs to head c mod `heads`.
        reduced: r, cells on a side of the grid.
        dropout: share of attention weights, and of outputs, that training sets to 0.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, reduced: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.reduced, self.dropout = heads, reduced, dropout
        self.table = nn.Parameter(torch.randn((2 * reduced - 1) ** 2, heads) * 0.02)
        self.output = _separable(channels, channels)
        self.register_buffer("index", _offsets(reduced), persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend.

        Args:
            query: `(B, C, h, w)`, both sides multiples of r.
            key: `(B, C, h', w')`; resized to r × r.
            value: like `key`.

        Returns:
            `(B, C, h, w)`.
        """
        height, width = query.shape[-2:]
        attended = F.scaled_dot_product_attention(  # it scales the product by 1 / √d, not the bias
            self._by_head(query),
            self._by_head(self._cells(key)),
            self._by_head(self._cells(value)),
            attn_mask=self._bias(height, width, query),
            dropout_p=self.dropout if self.training else 0.0,
        )  # (B, heads, h · w, d)
        maps = attended.permute(0, 3, 1, 2).reshape(query.shape)
        return F.dropout(self.output(maps), self.dropout, self.training)

    def _cells(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → `(B, C, r, r)`."""
        size = (self.reduced, self.reduced)
        return features if features.shape[-2:] == size else resized(features, size)

    def _by_head(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → `(B, heads, h · w, d)`, d = C / heads."""
        count, channels = features.shape[:2]
        split = features.reshape(count, channels // self.heads, self.heads, -1)
        return split.permute(0, 2, 3, 1)

    def _bias(self, height: int, width: int, query: Tensor) -> Tensor:
        """Of each pixel, by its cell, against every cell: `(1, heads, h · w, r²)`, times 1 / √d."""
        r, head_channels = self.reduced, query.shape[1] // self.heads
        cells = self.table[self.index] * head_channels**-0.5  # (r², r², heads)
        grid = cells.permute(2, 0, 1).reshape(1, self.heads, r, r, r * r)
        rows = grid.repeat_interleave(height // r, dim=2)
        pixels: Tensor = rows.repeat_interleave(width // r, dim=3)
        return pixels.reshape(1, self.heads, height * width, r * r).to(query.dtype)


class EncoderAttention(nn.Module):
    """A map attends to itself, then its channels are mixed; each is added to what it was given.

    Args:
        channels: C of the map.
        heads: as in `CellAttention`.
        reduced: as in `CellAttention`.
        dropout: as in `CellAttention`.
    """

    def __init__(self, channels: int, heads: int, reduced: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.project = _separable(channels, 3 * channels)
        self.attention = CellAttention(channels, heads, reduced, dropout)
        self.norm2 = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → the same shape."""
        query, key, value = self.project(self.norm1(features)).chunk(3, dim=1)
        attended = features + self.attention(query, key, value)
        mixed: Tensor = attended + self.mix(F.relu(self.norm2(attended)))
        return mixed


class DecoderAttention(nn.Module):
    """A skip attends to the map below, which it thereby takes up; added to that map, upsampled.

    Args:
        channels: C of the skip; the map below has 2C.
        heads: as in `CellAttention`.
        reduced: as in `CellAttention`.
        dropout: as in `CellAttention`.
    """

    def __init__(self, channels: int, heads: int, reduced: int, dropout: float) -> None:
        super().__init__()
        self.norm_low = nn.BatchNorm2d(2 * channels)
        self.norm_skip = nn.BatchNorm2d(channels)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.project_low = _separable(2 * channels, 2 * channels)
        self.project_skip = _separable(channels, channels)
        self.attention = CellAttention(channels, heads, reduced, dropout)
        self.norm2 = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        """`(B, 2C, h / 2, w / 2)` and `(B, C, h, w)` → `(B, C, h, w)`."""
        key, value = self.project_low(self.norm_low(low)).chunk(2, dim=1)
        query = self.project_skip(self.norm_skip(skip))
        upsampled = resized(self.narrow(low), skip.shape[-2:])
        attended = upsampled + self.attention(query, key, value)
        mixed: Tensor = attended + self.mix(F.relu(self.norm2(attended)))
        return mixed


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """A depthwise 3×3 convolution, then a 1×1 one."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
    )


def _offsets(reduced: int) -> Tensor:
    """Row of the bias table for each query cell and key cell, `(r², r²)`."""
    rows, columns = torch.arange(reduced**2) // reduced, torch.arange(reduced**2) % reduced
    down = rows[:, None] - rows + reduced - 1
    right = columns[:, None] - columns + reduced - 1
    return down * (2 * reduced - 1) + right
