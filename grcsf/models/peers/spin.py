"""SPiN: subpixel network (Wong et al. 2021) [Table 1]; segments a slice among its neighbours.

Two branches see five slices: one embeds them at twice their size, the other is a ResNet encoder,
whose decoder goes up to that size, guided by the embedding. A learnt downsampler weighs the four
subpixels of every pixel.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.mae.checkpoint import unwrap
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peers.public_weights import filled

SLOPE = 0.1
"""Of the leaky ReLU below 0."""


class Convolution(nn.Sequential):
    """Convolution without bias, batch norm where wanted, leaky ReLU; `kernel` and `stride` px."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, norm: bool = True
    ) -> None:
        layers: list[nn.Module] = [_convolution(inputs, outputs, kernel, stride)]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        super().__init__(*layers, nn.LeakyReLU(SLOPE))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Convolution(inputs, outputs, stride=stride)
        self.conv2 = Convolution(outputs, outputs)
        changes = inputs != outputs or stride != 1
        self.projection = _convolution(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h / stride, w / stride)`, rounded up."""
        # conv2 ends in an activation of its own, before the sum
        return F.leaky_relu(self.conv2(self.conv1(features)) + self.projection(features), SLOPE)


class SubpixelEmbedding(nn.Module):
    """The slices at twice their size, and the guidance drawn from it.

    Args:
        inputs: channels of the input, C.
        width: filters at the slices' size.
        channels: of the embedding, E.
        guidance: channels of the guidance, G.
    """

    def __init__(self, inputs: int, width: int, channels: int, guidance: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, width, 5)
        self.blocks = nn.Sequential(ResidualBlock(width, width), ResidualBlock(width, width))
        self.last = Convolution(width, width)
        self.enlarge = Convolution(width, 4 * width, 1)
        self.output = _convolution(width, channels)
        self.guidance_2x = Convolution(channels, guidance)
        self.guidance_1x = Convolution(4 * channels, guidance)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, h, w)` → guidance, at that size `(B, G, h, w)` and at twice it."""
        first = self.first(image)
        features = self.last(self.blocks(first)) + first
        embedding = self.output(F.pixel_shuffle(self.enlarge(features), 2))  # (B, E, 2h, 2w)
        return self.guidance_1x(F.pixel_unshuffle(embedding, 2)), self.guidance_2x(embedding)


class Encoder(nn.Module):
    """A ResNet of two blocks a stage; `filters` are those of 1/2, 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, inputs: int, filters: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.first = Convolution(inputs, filters[0], 7, 2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        strides = (1, 2, 2, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(before, after, stride), ResidualBlock(after, after))
            for before, after, stride in zip(filters[:-1], filters[1:], strides, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """`(B, C, h, w)` → features from 1/2 to 1/32, sizes rounded up."""
        features = [self.first(image)]
        deeper = self.pool(features[0])
        for stage in self.stages:
            deeper = stage(deeper)
            features.append(deeper)
        return features


class DecoderNode(nn.Module):
    """Features brought to a skip's size, and joined with it."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = Convolution(inputs, outputs)
        self.join = Convolution(outputs + skip, outputs)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """`(B, inputs, ·, ·)` and `(B, skip, h, w)` → `(B, outputs, h, w)`."""
        enlarged = F.interpolate(features, skip.shape[-2:], mode="nearest")
        joined: Tensor = self.join(torch.cat([self.up(enlarged), skip], dim=1))
        return joined


class Downsampler(nn.Module):
    """Logits at half the size: a mean of every pixel's four subpixels, with learnt weights."""

    def __init__(self, inputs: int, filters: tuple[int, int]) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            Convolution(4 * inputs, filters[0], norm=False),
            Convolution(filters[0], filters[1], norm=False),
        )
        self.weights = _convolution(filters[1], 4, 1)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """`(B, inputs, 2h, 2w)` and `(B, 1, 2h, 2w)` → `(B, 1, h, w)`."""
        weights = self.weights(self.convolutions(F.pixel_unshuffle(features, 2)))
        subpixels = F.pixel_unshuffle(logits, 2)  # (B, 4, h, w)
        mean: Tensor = (weights.softmax(dim=1) * subpixels).sum(dim=1, keepdim=True)
        return mean


class SPiN(SegmentationNetwork):
    """SPiN as trained on ATLAS: two neighbours on each side, the middle slice is segmented.

    It takes every size as it is: skips set the sizes on the way up. No convolution has a bias, and
    all start as PyTorch starts them. Its loss (`grcsf.losses.cross_entropy_loss`) knows the logits
    at the slices' size alone.

    Args:
        inputs: M, residual maps as further input channels of both branches.
        embedding: filters of the embedding branch.
        subpixels: channels of the embedding at twice the size.
        guidance: channels of the guidance.
        encoder: filters at 1/2, 1/4, 1/8, 1/16 and 1/32.
        decoder: filters at 1/16, 1/8, 1/4, 1/2, full and twice the size.
        downsampler: filters of its two convolutions.
    """

    size_multiple = 1
    context = 2

    def __init__(
        self,
        inputs: int = 0,
        *,
        embedding: int = 16,
        subpixels: int = 8,
        guidance: int = 8,
        encoder: tuple[int, int, int, int, int] = (32, 64, 128, 196, 196),
        decoder: tuple[int, int, int, int, int, int] = (196, 128, 64, 32, 16, 16),
        downsampler: tuple[int, int] = (16, 16),
    ) -> None:
        super().__init__()
        self.input_maps = inputs
        channels = 1 + 2 * self.context + inputs
        self.embedding = SubpixelEmbedding(channels, embedding, subpixels, guidance)
        self.encoder = Encoder(channels, encoder)
        skips = (*reversed(encoder[:-1]), guidance, guidance)
        self.decoder = nn.ModuleList(
            DecoderNode(before, skip, after)
            for before, skip, after in zip((encoder[-1], *decoder), skips, decoder, strict=False)
        )
        self.head = _convolution(decoder[-1], 1)
        self.downsampler = Downsampler(decoder[-1], downsampler)

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 5 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        *skips, decoded = self.encoder(image)
        for node, skip in zip(
            self.decoder, [*reversed(skips), *self.embedding(image)], strict=True
        ):
            decoded = node(decoded, skip)
        logits: Tensor = self.downsampler(decoded, self.head(decoded))
        return logits


def reference_state(network: SPiN, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state dict with weights of the authors' form in place.

    Args:
        network: of the same sizes.
        public: the authors' names, or their file, which has a state dict for each part
            (`{"encoder_segmentation_state_dict": …}`). Their blocks all have a projection; those
            whose shape does not change never use it, and ours lack it.

    Raises:
        ValueError: entries are missing, unexpected or mis-shaped, in one line.
    """
    own = network.state_dict()
    given = {_our_name(name): value for name, value in unwrap(_joined(public)).items()}
    idle = [name for name in given if name.endswith("projection.weight") and name not in own]
    given = {name: value for name, value in given.items() if name not in idle}
    first = ["embedding.first.0.weight", "encoder.first.0.weight"]
    return filled(own, given, network="SPiN", widened=first, maps=network.input_maps)


def _joined(public: Mapping[str, Any]) -> Mapping[str, Any]:
    """One state dict of those of the parts; one that is whole stays as it is."""
    parts = {part: public.get(f"{part}{_STATE}") for part in _PART_NAMES}
    joined = {
        f"{part}.{name}": value
        for part, state in parts.items()
        if isinstance(state, Mapping)
        for name, value in state.items()
    }
    return joined or public


_STATE = "_state_dict"
_PARTS = {
    "encoder_subpixel_embedding.conv0": "embedding.first",
    "encoder_subpixel_embedding.blocks": "embedding.blocks",
    "encoder_subpixel_embedding.conv1": "embedding.last",
    "decoder_subpixel_embedding.upsampling_blocks.0": "embedding.enlarge",
    "decoder_subpixel_embedding.output": "embedding.output",
    "subpixel_guidance.conv_modules.0.0": "embedding.guidance_2x",
    "subpixel_guidance.conv_modules.1.0": "embedding.guidance_1x",
    "encoder_segmentation.conv1": "encoder.first",
    **{f"encoder_segmentation.blocks{stage + 2}": f"encoder.stages.{stage}" for stage in range(4)},
    **{f"decoder_segmentation.deconv{4 - node}": f"decoder.{node}" for node in range(5)},
    "decoder_segmentation.deconv_super_resolution": "decoder.5",
    "decoder_segmentation.output": "head",
    "decoder_segmentation.learnable_downsampler.conv_block": "downsampler.convolutions",
    "decoder_segmentation.learnable_downsampler.weights": "downsampler.weights",
}
_PART_NAMES = dict.fromkeys(name.partition(".")[0] for name in _PARTS)


def _our_name(name: str) -> str:
    """The name of an entry here; an unknown one stays as it is, for the error to tell."""
    part = next((part for part in _PARTS if name.startswith(f"{part}.")), None)
    if part is None:
        return name
    name = _PARTS[part] + name.removeprefix(part)
    name = re.sub(r"^(decoder\.\d)\.deconv\.conv\.", r"\1.up.", name)
    name = re.sub(r"^(decoder\.\d)\.conv\.(?=conv|batch_norm)", r"\1.join.", name)
    name = re.sub(r"(projection|output|head|weights)\.conv\.", r"\1.", name)  # that stand alone
    return name.replace(".conv.", ".0.").replace(".batch_norm.", ".1.")


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
