"""Units of Table 7 that stand on the skips in place of Global Compensation Units.

Each computes a map per level, which updates every node of the level that serves as a skip.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.models.blocks import initialise
from grcsf.models.gcu import SkipUnit


class AttentionGate(SkipUnit):
    """Weighs a skip feature's pixels by a gate from the decoder node below.

    Oktay et al. 2018 (Attention U-Net), the paper's [45]. A transposed convolution upsamples the
    gating signal first; the count of Table 7 (40.12 M) needs it.

    Args:
        channels: C of the skip feature; the deeper features have 2C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.gating = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.skip = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.psi = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())
        self.apply(initialise)

    def forward(
        self,
        skip: Tensor,
        encoder_below: Tensor,  # noqa: ARG002
        decoder_below: Tensor,
    ) -> Tensor:
        """The gate, `(B, 1, h, w)` in (0, 1); arguments as in the base class."""
        joined = self.gating(self.up(decoder_below)) + self.skip(skip)  # (B, C, h, w)
        gate: Tensor = self.psi(F.relu(joined))
        return gate

    def update(self, features: Tensor, level_map: Tensor) -> Tensor:
        """`(B, C, h, w)` and the gate `(B, 1, h, w)` → the gated feature `(B, C, h, w)`."""
        return features * level_map


class PyramidAttention(SkipUnit):
    """Feature pyramid attention: context at 1/2, 1/4 and 1/8 of the skip's scale weighs its pixels.

    Li et al. 2018 (PAN, Fig. 3), the paper's [44]: kernels 7, 5 and 3, joined from the coarsest
    scale up, multiplied with a 1×1 convolution of the feature, plus its global average. The paper
    does not say how it stands on the skips of UNet++, and we do not meet its 72.21 M (Table 7). Our
    choices: C/4 channels in the pyramid, bilinear upsampling, and no batch norm inside it, because
    its coarsest maps may have a single pixel.

    Args:
        channels: C of the skip feature.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.down = nn.ModuleList(
            _conv(inputs, inner, kernel)
            for inputs, kernel in ((channels, 7), (inner, 5), (inner, 3))
        )
        self.across = nn.ModuleList(_conv(inner, inner, kernel) for kernel in (7, 5, 3))
        self.expand = nn.Conv2d(inner, channels, 1)
        self.middle = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.overall = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.apply(initialise)

    def forward(
        self,
        skip: Tensor,
        encoder_below: Tensor,  # noqa: ARG002
        decoder_below: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """The pyramid's weights, `(B, C, h, w)`; arguments as in the base class."""
        maps, scales = skip, []
        for down, across in zip(self.down, self.across, strict=True):
            # ceil, so that a map of one pixel stays one
            maps = down(F.max_pool2d(maps, 2, ceil_mode=True))
            scales.append(across(maps))
        joined = scales.pop()
        while scales:
            finer = scales.pop()
            joined = finer + _resized(joined, finer)
        weights: Tensor = _resized(self.expand(joined), skip)
        return weights

    def update(self, features: Tensor, level_map: Tensor) -> Tensor:
        """`(B, C, h, w)` and the weights `(B, C, h, w)` → the refined feature `(B, C, h, w)`."""
        refined: Tensor = self.middle(features) * level_map + self.overall(features)
        return refined.relu()


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU())


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)
