"""TransUnet: a ResNet, a vision transformer on its last map, and a decoder [Table 1].

Chen et al. 2021, with the hybrid "R50-ViT-B/16" and three skips. The blocks of tokens are timm's.
"""

from functools import partial
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from grcsf.models.blocks import ConvBlock, SegmentationNetwork
from grcsf.models.peers.group_norm_resnet import GroupNormResNet
from grcsf.models.peers.slices import COLOURS, pad_to_size, repeat_slice

PATCH = 16
"""Pixels of the side of what one token stands for."""


class TransUnet(SegmentationNetwork):
    """A ResNet's features at 1/2, 1/4, 1/8 are the skips of a decoder that starts at the tokens.

    The table of positions fixes the size: smaller slices are padded to it.

    Args:
        input_size: (h, w) in pixels, multiples of 16, at least 32.
        inputs: M, residual maps as further input channels.
        width: channels of a token.
        depth: blocks of the transformer.
        heads: of each block.
        mlp_ratio: hidden channels of a block's MLP, in widths.
        resnet_width: filters of the ResNet's stem, a multiple of 32.
        units: bottlenecks of its three stages.
        first: channels of the decoder's first convolution.
        decoder: channels of its nodes at 1/8, 1/4, 1/2 and full scale.
        dropout: on the tokens and in the MLPs.

    Raises:
        ValueError: if a size is not as above.
    """

    size_multiple = 1
    colours = True

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (224, 224),
        inputs: int = 0,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        resnet_width: int = 64,
        units: tuple[int, int, int] = (3, 4, 9),
        first: int = 512,
        decoder: tuple[int, int, int, int] = (256, 128, 64, 16),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if any(side < 2 * PATCH or side % PATCH for side in input_size):
            raise ValueError(
                f"input_size must be multiples of {PATCH} pixels, at least {2 * PATCH}, found "
                f"{input_size[0]}×{input_size[1]}"
            )
        if width % heads:
            raise ValueError(f"{heads} heads do not divide {width} channels; change width or heads")
        self.input_size, self.input_maps = input_size, inputs
        self.grid = (input_size[0] // PATCH, input_size[1] // PATCH)
        self.resnet = GroupNormResNet(COLOURS + inputs, resnet_width, units)
        *skips, deepest = self.resnet.channels
        self.patch_embed = nn.Conv2d(deepest, width, 1)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], width))
        self.dropout = nn.Dropout(dropout)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(
                Block(
                    width,
                    heads,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=True,
                    proj_drop=dropout,
                    norm_layer=norm,  # type: ignore[arg-type]
                    attn_layer=PlainAttention,
                )
                for _ in range(depth)
            )
        )
        self.norm = norm(width)
        self.decoder = Decoder(width, first, decoder, tuple(reversed(skips)))
        self.head = nn.Conv2d(decoder[-1], 1, 3, padding=1)
        self.blocks.apply(_initialise)

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        *skips, deepest = self.resnet(
            repeat_slice(pad_to_size(image, self.input_size), self.normalisation)
        )
        tokens = self.patch_embed(deepest).flatten(2).transpose(1, 2)  # (B, L, D)
        tokens = self.norm(self.blocks(self.dropout(tokens + self.pos_embed)))
        features = tokens.transpose(1, 2).unflatten(2, self.grid)
        logits: Tensor = self.head(self.decoder(features, skips[::-1]))
        return logits[..., : image.shape[-2], : image.shape[-1]]


class PlainAttention(Attention):
    """timm's attention with its softmax as a module, which the paper's count includes [Table 1].

    The blocks' dropout is for their MLPs; the attention has none.
    """

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(width, **options | {"proj_drop": 0.0})
        self.softmax = nn.Softmax(dim=-1)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,  # noqa: ARG002 - what timm's blocks hand over
        is_causal: bool = False,  # noqa: ARG002
    ) -> Tensor:
        """`(B, L, D)` → `(B, L, D)`."""
        split = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, L, 3, heads, d)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        weights = self.softmax(queries * self.scale @ keys.transpose(-2, -1))
        attended: Tensor = self.proj((weights @ values).transpose(1, 2).flatten(2))
        return attended


class Decoder(nn.Module):
    """A node at each scale from 1/8 up, after bilinear upsampling and beside its skip.

    Args:
        inputs: channels of the deepest map.
        first: channels that it is brought to.
        outputs: channels of the nodes, deepest first.
        skips: channels of the skips, deepest first; the last node has none.
    """

    def __init__(
        self, inputs: int, first: int, outputs: tuple[int, ...], skips: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.up = nn.UpsamplingBilinear2d(scale_factor=2)  # corners aligned
        self.blocks = nn.ModuleList(
            ConvBlock(before + skip, after, bias=False)
            for before, skip, after in zip(
                (first, *outputs[:-1]), (*skips, 0), outputs, strict=True
            )
        )

    def forward(self, deepest: Tensor, skips: list[Tensor]) -> Tensor:
        """`(B, inputs, h / 16, w / 16)` and the skips, deepest first → `(B, outputs[-1], h, w)`."""
        features: Tensor = self.first(deepest)
        for number, block in enumerate(self.blocks):
            features = block(torch.cat([self.up(features), *skips[number : number + 1]], dim=1))
        return features


def _initialise(module: nn.Module) -> None:
    """Of the blocks' MLPs; all else starts as torch has it, and the positions at 0."""
    if isinstance(module, Mlp):
        for name, parameter in module.named_parameters():
            if parameter.is_meta:
                continue
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.normal_(parameter, std=1e-6)
