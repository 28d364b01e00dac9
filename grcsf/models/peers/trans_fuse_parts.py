"""Parts of TransFuse: its two branches, and what fuses, gates and upsamples their maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.mae.transformer import PatchEmbedding, TransformerLayer

PATCH = 16
"""Pixels of a token's side; the CNN's deepest map has the same scale."""


def conv_norm(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Sequential:
    """A convolution that keeps the size, and a batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias), nn.BatchNorm2d(outputs)
    )


def initialise_weights(module: nn.Module) -> None:
    """He-initialise a convolution's weights, leave its biases; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class BiFusion(nn.Module):
    """Joins the maps of both branches: the CNN's by pixel, the transformer's by channel.

    Their product is a third map; a residual unit brings all three to one.

    Args:
        width: C of the CNN's map, of the product and of the result.
        tokens: D, channels of the transformer's map.
        reduction: r of the channels' squeeze.
        dropout: share of the result's channels that training sets to 0.
    """

    def __init__(self, width: int, tokens: int, reduction: int, dropout: float) -> None:
        super().__init__()
        inner, joined = width // 2, 2 * width + tokens
        self.from_cnn = conv_norm(width, width, 1)
        self.from_tokens = conv_norm(tokens, width, 1)
        self.product = nn.Sequential(*conv_norm(width, width, 3), nn.ReLU())
        self.spatial = nn.Sequential(*conv_norm(2, 1, 7, bias=False), nn.Sigmoid())
        self.channel = nn.Sequential(
            nn.Conv2d(tokens, tokens // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(tokens // reduction, tokens, 1),
            nn.Sigmoid(),
        )
        self.residual = nn.Sequential(
            nn.BatchNorm2d(joined),
            nn.ReLU(),
            nn.Conv2d(joined, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1),
        )
        self.shortcut = nn.Conv2d(joined, width, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, cnn: Tensor, tokens: Tensor) -> Tensor:
        """`(B, C, h, w)` and `(B, D, h, w)` → `(B, C, h, w)`."""
        product = self.product(self.from_cnn(cnn) * self.from_tokens(tokens))
        pooled = torch.cat([cnn.amax(dim=1, keepdim=True), cnn.mean(dim=1, keepdim=True)], dim=1)
        means = tokens.mean(dim=(2, 3), keepdim=True)
        weighed = [cnn * self.spatial(pooled), tokens * self.channel(means), product]
        joined = torch.cat(weighed, dim=1)
        fused: Tensor = self.dropout(self.residual(joined) + self.shortcut(joined))
        return fused


class Gate(nn.Module):
    """Weighs a skip's pixels by the map from below (Oktay et al. 2018, Attention U-Net).

    Args:
        below: C of the map from below.
        skip: channels n of the skip, and inside the gate.
    """

    def __init__(self, below: int, skip: int) -> None:
        super().__init__()
        self.from_below = conv_norm(below, skip, 1)
        self.from_skip = conv_norm(skip, skip, 1)
        self.weight = nn.Sequential(*conv_norm(skip, 1, 1), nn.Sigmoid())

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """`(B, C, h, w)` and `(B, n, h, w)` → the weighed skip, `(B, n, h, w)`."""
        weight: Tensor = self.weight(F.relu(self.from_below(below) + self.from_skip(skip)))
        return skip * weight


class UpBlock(nn.Module):
    """Doubles the scale, joins a gated skip where there is one, and convolves twice.

    Args:
        inputs: C of the map from below.
        outputs: channels n of the result, and of the skip.
        gated: whether there is a skip.
    """

    def __init__(self, inputs: int, outputs: int, *, gated: bool = False) -> None:
        super().__init__()
        joined = inputs + outputs if gated else inputs
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.gate = Gate(inputs, outputs) if gated else None
        self.path = nn.Sequential(
            *conv_norm(joined, outputs, 3), nn.ReLU(), *conv_norm(outputs, outputs, 3)
        )
        self.shortcut = conv_norm(joined, outputs, 1)

    def forward(self, below: Tensor, skip: Tensor | None = None) -> Tensor:
        """`(B, C, h / 2, w / 2)` and `(B, n, h, w)` → `(B, n, h, w)`."""
        joined = self.up(below)
        if self.gate is not None and skip is not None:
            joined = torch.cat([self.gate(joined, skip), joined], dim=1)
        return F.relu(self.path(joined) + self.shortcut(joined))


class ConvolutionalBranch(nn.Module):
    """Stem and stages of a ResNet with bottlenecks, under torchvision's names.

    torchvision's own class fixes the stem's channels, and has a further stage and a classifier.

    Args:
        inputs: channels of the image.
        stem: channels of the first convolution.
        bottlenecks: inner channels of each stage.
        stages: bottlenecks of each stage.
        dropout: share of the channels of each map that training sets to 0.
    """

    def __init__(
        self,
        inputs: int,
        stem: int,
        bottlenecks: tuple[int, int, int],
        stages: tuple[int, int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(stem, bottlenecks[0], stages[0], stride=1)
        self.layer2 = _stage(4 * bottlenecks[0], bottlenecks[1], stages[1], stride=2)
        self.layer3 = _stage(4 * bottlenecks[1], bottlenecks[2], stages[2], stride=2)
        self.dropout = nn.Dropout2d(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """`(B, inputs, h, w)` → the maps at 1/16, 1/8, 1/4 of its scale."""
        features = self.pool(F.relu(self.bn1(self.conv1(pixels))))
        maps: list[Tensor] = []
        for stage in (self.layer1, self.layer2, self.layer3):
            features = self.dropout(stage(features))
            maps.insert(0, features)
        return maps


class TransformerBranch(nn.Module):
    """DeiT without class token and classifier, under timm's names.

    Args:
        inputs: channels of the image.
        grid: tokens down and across.
        width: channels D of a token.
        depth: blocks.
        heads: of each block.
    """

    def __init__(
        self, inputs: int, grid: tuple[int, int], width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = PatchEmbedding(PATCH, inputs, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*(TransformerLayer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if not self.pos_embed.is_meta:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """`(B, inputs, 16 h, 16 w)` → the tokens as a map, `(B, D, h, w)`, (h, w) = `grid`."""
        embedded = self.patch_embed(pixels) + self.pos_embed
        tokens: Tensor = self.norm(self.blocks(embedded))  # (B, L, D)
        return tokens.transpose(1, 2).reshape(len(pixels), -1, *self.grid)


def _stage(inputs: int, inner: int, count: int, stride: int) -> nn.Sequential:
    """`count` bottlenecks of torchvision, the first with the stride and a projected shortcut."""
    from torchvision.models.resnet import Bottleneck  # takes seconds

    outputs = 4 * inner
    shortcut = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )
    further = (Bottleneck(outputs, inner) for _ in range(count - 1))
    return nn.Sequential(Bottleneck(inputs, inner, stride, shortcut), *further)
