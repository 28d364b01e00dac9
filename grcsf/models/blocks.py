"""Parts that every U-shaped network shares: padding, nodes, encoder, rows, initialisation."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.models.normalisation import Normalisation

LEVELS = 4
"""Skip levels of a U-shaped network; level l works at 1 / 2**l of the input's scale."""

Compensate = Callable[[Tensor], Tensor]
"""A map from a skip feature `(B, C, h, w)` to its updated version of the same shape."""


def pad_to_multiple(maps: Tensor, multiple: int) -> Tensor:
    """Pad with zeros at the bottom and the right until both sides are multiples.

    Args:
        maps: `(B, C, h, w)`.
        multiple: at least 1, in pixels.

    Returns:
        `(B, C, h', w')`, `h <= h' < h + multiple`; the same tensor where nothing is missing.
    """
    height, width = maps.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(maps, (0, right, 0, bottom)) if bottom or right else maps


def initialise(module: nn.Module) -> None:
    """He-initialise the weights, zero the biases; for `nn.Module.apply` [§4.3]."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        if (
            module.weight.is_meta
        ):  # to draw no values there, torch imports its compiler for a second
            return
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ConvBlock(nn.Sequential):
    """One node: twice (3×3 convolution, batch norm, ReLU); `(B, in, h, w)` → `(B, out, h, w)`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether the convolutions have a bias. Batch norm cancels it; the paper's parameter
            counts include it in UNet++ and not in UNet.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """Five nodes with max-pooling between them.

    Args:
        filters: channels of the five nodes, finest first.
        bias: as in `ConvBlock`.
        inputs: channels of the input, C.
    """

    def __init__(self, filters: tuple[int, ...], *, bias: bool, inputs: int = 1) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            ConvBlock(before, after, bias=bias)
            for before, after in zip((inputs, *filters[:-1]), filters, strict=True)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """`(B, C, h, w)` → the features X^{l,0}, `(B, filters[l], h / 2**l, w / 2**l)`."""
        features = [self.nodes[0](image)]
        for node in self.nodes[1:]:
            features.append(node(self.pool(features[-1])))
        return features


class SegmentationNetwork(nn.Module, ABC):
    """Base of all networks: an image, and residual maps where it uses them, to logits.

    Height and width are free: inputs are padded to a multiple of `size_multiple`, and the logits
    are cropped back. Subclasses write `segment`, which sees padded sizes only. The padding is zero
    in image and residuals, and the network treats it as background: it counts in a channel's mean
    and attention reaches it.
    """

    size_multiple: int = 2**LEVELS
    """Pixels; 1 for a network that takes every size as it is."""
    context: int = 0
    """Neighbours on each side of a slice that are input channels too: c. A class whose method needs
    them sets it; any other network sees them by `see_neighbours`."""
    own_slice_first: bool = False
    """Whether the neighbours follow the own slice, else all stand in the volume's order."""
    input_maps: int = 0
    """Residual maps that follow the image as input channels: all that it is given, or none."""
    colours: bool = False
    """Whether it shows the slice three times, as red, green and blue, and normalises these."""

    def __init__(self) -> None:
        super().__init__()
        self.normalisation: Normalisation | None = None

    @property
    def further_inputs(self) -> int:
        """Input channels after the slices that its method shows: neighbours and residual maps."""
        return self.input_maps + (2 * self.context if self.own_slice_first else 0)

    def see_neighbours(self, context: int) -> None:
        """Make the first 2c of a new network's further input channels those of c neighbours a side.

        Raises:
            ValueError: its method has neighbours of its own, or it has too few further channels.
        """
        if self.context:
            raise ValueError(f"this network sees {self.context} neighbours on each side already")
        if context < 1 or self.input_maps < 2 * context:
            raise ValueError(f"found {self.input_maps} further channels for {context} neighbours")
        self.context, self.own_slice_first = context, True
        self.input_maps -= 2 * context

    def forward(self, image: Tensor, residuals: Tensor | None = None) -> Tensor:
        """Segment a batch of slices.

        Args:
            image: `(B, 1 + 2c, h, w)`, c = `context`: the slice in the middle of its neighbours, in
                the volume's order (`grcsf.neighbours`); intensities in [0, 1].
            residuals: `(B, R, h, w)` in [0, 1], signed ones in [−1, 1]. A network that has them
                neither as input channels nor in regional units ignores them; it takes the
                argument so that the same loop drives every network.

        Returns:
            Logits, `(B, 1, h, w)`.

        Raises:
            ValueError: if a shape is not as above, or residual maps are needed and missing.
        """
        inputs = self._padded(image, residuals)
        height, width = image.shape[-2:]
        return self.segment(*inputs)[..., :height, :width]

    def supervised(
        self, image: Tensor, residuals: Tensor | None = None
    ) -> list[tuple[float, Tensor]]:
        """What a training step compares with the label; arguments and errors as in `forward`.

        Returns:
            For each head its weight in the loss and its logits, `(B, 1, h, w)`; the first is what
            `forward` gives. A network without further heads has that one, with weight 1.
        """
        inputs = self._padded(image, residuals)
        height, width = image.shape[-2:]
        outputs = self.segment_supervised(*inputs)
        return [(weight, logits[..., :height, :width]) for weight, logits in outputs]

    def _padded(self, image: Tensor, residuals: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The arguments of `segment`: checked, padded, and the maps among the input channels."""
        slices = 1 + 2 * self.context
        if image.ndim != 4 or image.shape[1] != slices:
            neighbours = f" (a slice and {self.context} neighbours on each side)"
            raise ValueError(
                f"image must be (B, {slices}, h, w){neighbours if self.context else ''}, "
                f"found {tuple(image.shape)}"
            )
        if self.input_maps and residuals is None:
            raise ValueError("this network needs residual maps (B, R, h, w), found none")
        if residuals is not None:
            expected = image.shape[0], *image.shape[2:]
            if residuals.ndim != 4 or (residuals.shape[0], *residuals.shape[2:]) != expected:
                raise ValueError(
                    f"residuals must be ({image.shape[0]}, R, {image.shape[2]}, {image.shape[3]}) "
                    f"like the image, found {tuple(residuals.shape)}"
                )
            residuals = pad_to_multiple(residuals, self.size_multiple)
        image = pad_to_multiple(image, self.size_multiple)
        return self._channels(image, residuals), residuals

    def _channels(self, image: Tensor, residuals: Tensor | None) -> Tensor:
        """`(B, 1 + 2c + M, h, w)`: the image, then M = `input_maps` maps in their set's order."""
        if self.normalisation is not None and not self.colours:
            image = self.normalisation(image)
        if self.own_slice_first:
            own = self.context
            image = torch.cat([image[:, own : own + 1], image[:, :own], image[:, own + 1 :]], dim=1)
        if not self.input_maps or residuals is None:
            return image
        if residuals.shape[1] != self.input_maps:
            raise ValueError(
                f"expected {self.input_maps} residual maps, found {residuals.shape[1]}"
            )
        return torch.cat([image, residuals], dim=1)

    @abstractmethod
    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:
        """`(B, 1 + 2c + M, h, w)` and `(B, R, h, w)` → logits `(B, 1, h, w)`, h and w padded.

        c = `context`, M = `input_maps`: the image comes first, its own slice at channel c, or
        before its neighbours where `own_slice_first`.
        """

    def segment_supervised(
        self, image: Tensor, residuals: Tensor | None
    ) -> list[tuple[float, Tensor]]:
        """As `segment`, for training: weighted logits, what `segment` returns first.

        A network with further heads overrides it.
        """
        return [(1.0, self.segment(image, residuals))]


class Backbone(SegmentationNetwork):
    """A U-shaped network whose decoder is computed in rows, from the deepest level up.

    A row holds the nodes X^{l,0} .. X^{l,n} of one level, the last being its decoder node. The
    rows are what compensation units reach into (`grcsf.models.grcsf`).

    Args:
        width: filters at full scale; they double at each level (64 = paper).
        bias: as in `ConvBlock`.
        encoder: `(B, 1 + M, h, w)` → five features with these filters, halved at each level; None
            takes an `Encoder`.
        input_maps: M, residual maps as further input channels.

    Raises:
        ValueError: if `width` is below 1.
    """

    def __init__(
        self, width: int, *, bias: bool, encoder: nn.Module | None = None, input_maps: int = 0
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, found {width}")
        self.filters = tuple(width * 2**level for level in range(LEVELS + 1))
        if encoder is None:
            encoder = Encoder(self.filters, bias=bias, inputs=1 + input_maps)
        self.encoder, self.input_maps = encoder, input_maps
        self.head = nn.Conv2d(width, 1, 1)

    @abstractmethod
    def decode_row(
        self, level: int, skip: Tensor, below: list[Tensor], compensate: Compensate
    ) -> list[Tensor]:
        """Compute the nodes of one level.

        Args:
            level: 0 (full scale) to 3.
            skip: X^{l,0}, `(B, filters[l], h, w)`.
            below: the row of level l + 1, each `(B, filters[l + 1], h / 2, w / 2)`.
            compensate: for every node that serves as a skip feature, all but the last.

        Returns:
            The row, each `(B, filters[l], h, w)`, compensated.
        """

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        features: list[Tensor] = self.encoder(image)
        row = features[-1:]
        for level in reversed(range(LEVELS)):
            row = self.decode_row(level, features[level], row, unchanged)
        logits: Tensor = self.head(row[-1])
        return logits


def unchanged(features: Tensor) -> Tensor:
    """The compensation of a level that has no unit: none."""
    return features


def concatenate(features: list[Tensor], upsampled: Tensor) -> Tensor:
    """Skip features and the upsampled node from below → `(B, sum of C, h, w)`."""
    return torch.cat([*features, upsampled], dim=1)
