"""UTNet: a UNet with attention at every scale but the first [Table 1; Gao et al. 2021]."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.mae.checkpoint import unwrap
from grcsf.models.blocks import LEVELS, SegmentationNetwork
from grcsf.models.peers.public_weights import UNCOUNTED, filled
from grcsf.models.peers.renaming import renamed
from grcsf.models.peers.ut_net_attention import DecoderAttention, EncoderAttention, resized

AUXILIARY_WEIGHTS = (0.4, 0.2, 0.1)
"""Loss weights of the auxiliary heads at levels 1, 2, 3; the prediction's is 1."""

REFERENCE_NAMES = (
    (r"^inc\.", "first."),
    *((rf"^down{level}\.blocks\.", f"encoder.{level - 1}.") for level in range(1, LEVELS + 1)),
    *((rf"^up{LEVELS - level}\.", f"decoder.{level - 1}.") for level in range(1, LEVELS)),
    (rf"^up{LEVELS}\.conv_ch\.", "narrow."),
    (rf"^up{LEVELS}\.conv\.", "last."),
    (r"^outc\.", "head."),
    *((rf"^out{LEVELS - level}\.", f"auxiliary.{level - 1}.") for level in range(1, LEVELS)),
    (r"\.attn_decoder\.", ".attention_block."),
    (r"\.blocks\.0\.", ".join."),
    (r"\.attn\.to_out\.", ".attention.output."),
    (r"\.attn\.to_qkv\.", ".project."),
    (r"\.attn\.to_kv\.", ".project_low."),
    (r"\.attn\.to_q\.", ".project_skip."),
    (r"\.attn\.relative_position_encoding\.relative_position_bias_table$", ".attention.table"),
    (r"\.depthwise\.", ".0."),
    (r"\.pointwise\.", ".1."),
    (r"\.bn_l\.", ".norm_low."),
    (r"\.bn_h\.", ".norm_skip."),
    (r"\.conv_ch\.", ".narrow."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.mlp\.", ".mix."),
)
"""The authors' names to ours."""


class ResidualBlock(nn.Module):
    """Twice (batch norm, ReLU, 3×3 convolution) beside a shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(
                nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """`(B, in, h, w)` → `(B, out, h, w)`."""
        inner = self.conv1(F.relu(self.norm1(features)))
        joined: Tensor = self.conv2(F.relu(self.norm2(inner))) + self.shortcut(features)
        return joined


class DecoderNode(nn.Module):
    """Decoder attention, then a residual block on its map and the skip; arguments as above."""

    def __init__(self, channels: int, heads: int, reduced: int, dropout: float) -> None:
        super().__init__()
        self.attention_block = DecoderAttention(channels, heads, reduced, dropout)
        self.join = ResidualBlock(2 * channels, channels)

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        """`(B, 2C, h / 2, w / 2)` and `(B, C, h, w)` → `(B, C, h, w)`."""
        joined: Tensor = self.join(torch.cat([self.attention_block(low, skip), skip], dim=1))
        return joined


class UTNet(SegmentationNetwork):
    """The network that Table 1 compares with; sizes as its counts need them.

    Args:
        width: filters at full scale; they double at each level (64 = paper).
        blocks: attention blocks of levels 1 to 4.
        heads: of every attention.
        reduced: as in `CellAttention`; sides are padded to multiples of 16 times as much.
        dropout: as in `CellAttention`.
        auxiliary: train levels 1 to 3 by heads of their own, too.
        inputs: M, residual maps as further input channels.

    Raises:
        ValueError: if `width` is no multiple of `heads`.
    """

    def __init__(
        self,
        width: int = 64,
        *,
        blocks: tuple[int, int, int, int] = (1, 1, 4, 8),
        heads: int = 4,
        reduced: int = 8,
        dropout: float = 0.1,
        auxiliary: bool = False,
        inputs: int = 0,
    ) -> None:
        super().__init__()
        if width < 1 or 2 * width % heads:
            raise ValueError(f"twice the width must be a multiple of {heads} heads, found {width}")
        self.size_multiple, self.input_maps = 2**LEVELS * reduced, inputs
        filters = [width * 2**level for level in range(LEVELS + 1)]
        attention = (heads, reduced, dropout)
        self.first = nn.Sequential(ResidualBlock(1 + inputs, width), ResidualBlock(width, width))
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.MaxPool2d(2),
                ResidualBlock(channels // 2, channels),
                *(EncoderAttention(channels, *attention) for _ in range(count)),
            )
            for channels, count in zip(filters[1:], blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            DecoderNode(channels, *attention) for channels in filters[1:LEVELS]
        )
        self.narrow = nn.Conv2d(2 * width, width, 1)
        self.last = nn.Sequential(ResidualBlock(2 * width, width), ResidualBlock(width, width))
        self.head = nn.Conv2d(width, 1, 1)
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(channels, 1, 1) for channels in filters[1:LEVELS] if auxiliary
        )

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        logits: Tensor = self.head(self._decoded(image)[0])
        return logits

    def segment_supervised(
        self,
        image: Tensor,
        residuals: Tensor | None,  # noqa: ARG002
    ) -> list[tuple[float, Tensor]]:
        """Loss weights and logits `(B, 1, h, w)`: the prediction, then levels 1 to 3, if any."""
        full, *coarser = self._decoded(image)
        outputs: list[tuple[float, Tensor]] = [(1.0, self.head(full))]
        if self.auxiliary:
            for weight, head, features in zip(
                AUXILIARY_WEIGHTS, self.auxiliary, coarser, strict=True
            ):
                outputs.append((weight, resized(head(features), image.shape[-2:])))
        return outputs

    def _decoded(self, image: Tensor) -> list[Tensor]:
        """The decoder's maps of levels 0 to 3, `(B, filters[l], h / 2**l, w / 2**l)`."""
        features = [self.first(image)]
        for level in self.encoder:
            features.append(level(features[-1]))
        decoded = [features.pop()]
        full, *skips = features
        for node, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            decoded.insert(0, node(decoded[0], skip))
        upsampled = self.narrow(resized(decoded[0], full.shape[-2:]))
        return [self.last(torch.cat([full, upsampled], dim=1)), *decoded[:-1]]


def reference_state(network: UTNet, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state dict with weights of the authors' form in place.

    Args:
        network: of the same sizes; its auxiliary heads stay as they are where `public` has none.
        public: a state dict that the authors' code has trained; they publish none. Auxiliary heads
            that the network lacks are left out.

    Raises:
        ValueError: entries are missing, unexpected or mis-shaped, in one line.
    """
    index = "relative_position_index"  # ours makes its own
    state = {key: value for key, value in unwrap(public).items() if not key.endswith(index)}
    given, heads = renamed(state, REFERENCE_NAMES), "auxiliary."
    if not network.auxiliary:
        given = {name: value for name, value in given.items() if not name.startswith(heads)}
    kept = () if any(name.startswith(heads) for name in given) else (heads,)
    own = network.state_dict()
    first = [name for name in own if name.startswith(_SEES_INPUT) and not name.endswith(UNCOUNTED)]
    further: Any = {"widened": first, "maps": network.further_inputs}
    return filled(own, given, network="UTNet", kept=kept, **further)


_SEES_INPUT = ("first.0.norm1.", "first.0.conv1.", "first.0.shortcut.")
