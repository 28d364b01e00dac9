"""The ResNet of hybrid vision transformers: standardised convolutions and group norm.

Kolesnikov et al. 2020 ("Big Transfer"), as TransUnet uses it. timm's ResNet of these weights pads
and normalises otherwise, and gives other numbers.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.models.peers.slices import pad_to_size

GROUPS = 32
"""Of a group norm, so that all widths are multiples of it."""


class StandardisedConv(nn.Conv2d):
    """A convolution without bias whose filters have mean 0 and variance 1 whenever it is used."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """`(B, inputs, h, w)` → `(B, outputs, h / stride, w / stride)`."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(input, weight, None, self.stride, self.padding)


class Bottleneck(nn.Module):
    """Convolutions 1×1, 3×3, 1×1 beside a shortcut: `(B, inputs, h, w)` → `(B, 4 · middle, …)`."""

    def __init__(self, inputs: int, middle: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * middle
        self.conv1, self.norm1 = StandardisedConv(inputs, middle, 1), _norm(middle)
        self.conv2, self.norm2 = StandardisedConv(middle, middle, 3, stride), _norm(middle)
        self.conv3, self.norm3 = StandardisedConv(middle, outputs, 1), _norm(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                OrderedDict(
                    conv=StandardisedConv(inputs, outputs, 1, stride),
                    norm=nn.GroupNorm(outputs, outputs, eps=1e-5),  # each channel is a group here
                )
            )

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        inner = F.relu(self.norm1(self.conv1(features)))
        inner = F.relu(self.norm2(self.conv2(inner)))
        return F.relu(self.norm3(self.conv3(inner)) + self.downsample(features))


class GroupNormResNet(nn.Module):
    """Stem and three stages of bottlenecks, at 1/2, 1/4, 1/8 and 1/16.

    Args:
        inputs: channels of the input, C.
        width: filters of the stem, a multiple of 32.
        units: bottlenecks of each stage.

    Raises:
        ValueError: if `width` is no multiple of 32.
    """

    def __init__(self, inputs: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        if width < GROUPS or width % GROUPS:
            raise ValueError(f"ResNet width must be a multiple of {GROUPS}, found {width}")
        self.stem = nn.Sequential(
            OrderedDict(
                conv=StandardisedConv(inputs, width, 7, 2), norm=_norm(width), act=nn.ReLU()
            )
        )
        self.pool = nn.MaxPool2d(3, stride=2)  # without padding, so a row and a column are missing
        self.stages = nn.ModuleList()
        self.channels = [width]
        for stage, count in enumerate(units):
            middle = width * 2**stage
            first = Bottleneck(self.channels[-1], middle, stride=2 if stage else 1)
            others = [Bottleneck(4 * middle, middle) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(first, *others))
            self.channels.append(4 * middle)

    def forward(self, image: Tensor) -> list[Tensor]:
        """`(B, C, h, w)` → features at 1/2, 1/4 … of `channels`; h and w are multiples of 16.

        What the pool left out is filled with zeros, but in skips alone: the next stage sees the
        smaller map.
        """
        height, width = image.shape[-2:]
        stem = self.stem(image)
        skips, features = [stem], self.pool(stem)
        for number, stage in enumerate(self.stages, start=2):
            features = stage(features)
            skips.append(pad_to_size(features, (height // 2**number, width // 2**number)))
        return skips


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)
