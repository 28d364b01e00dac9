"""Alternatives to squeeze and excitation in a Global Compensation Unit [Table 7].

Both take a map `(B, C, h, w)` and return it re-weighted, as `SqueezeExcitation` does.
"""

import torch
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """Re-weights pixels by a 7×7 convolution over the channels' mean and maximum.

    Woo et al. 2018 (CBAM, §3.2), the paper's [43]. A positive factor that all channels of a pixel
    share cancels in the cosine of Eq. 1: in a GCU this attention changes R by rounding only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → the re-weighted map `(B, C, h, w)`."""
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        gate: Tensor = self.gate(pooled)  # (B, 1, h, w)
        return features * gate


class CoordinateAttention(nn.Module):
    """Re-weights channels by their means along rows and along columns.

    Hou et al. 2021. It fits the paper's sentence that each position captures context along both
    the horizontal and the vertical axis [§3.2], although the paper names squeeze and excitation.

    Args:
        channels: C.
        reduction: C // reduction hidden channels, at least 8, as published.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish()
        )
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → the re-weighted map `(B, C, h, w)`."""
        height, width = features.shape[-2:]
        rows = features.mean(3, keepdim=True)  # (B, C, h, 1)
        columns = features.mean(2, keepdim=True).transpose(2, 3)  # (B, C, w, 1)
        squeezed = self.squeeze(torch.cat([rows, columns], dim=2))  # (B, C', h + w, 1)
        by_row, by_column = squeezed.split([height, width], dim=2)
        row_gate: Tensor = self.rows(by_row).sigmoid()  # (B, C, h, 1)
        column_gate: Tensor = self.columns(by_column.transpose(2, 3)).sigmoid()  # (B, C, 1, w)
        return features * row_gate * column_gate
