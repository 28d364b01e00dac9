"""TransFuse: a CNN and a transformer side by side, fused at three scales [Table 1].

Zhang et al. 2021. The branches are a ResNet-50 without its last stage, of torchvision's
bottlenecks, and DeiT-B; the state dict has the names of torchvision and timm.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.mae.checkpoint import unwrap
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peers.public_weights import filled, on_grid
from grcsf.models.peers.renaming import renamed
from grcsf.models.peers.slices import COLOURS, pad_to_size, repeat_slice
from grcsf.models.peers.trans_fuse_parts import (
    PATCH,
    BiFusion,
    ConvolutionalBranch,
    TransformerBranch,
    UpBlock,
    conv_norm,
    initialise_weights,
)

BRANCH_DROPOUT, FUSION_DROPOUT = 0.2, 0.1
"""Shares of the channels that training sets to 0: in each branch's maps, and in the fused ones."""
PREDICTION, TOKENS_ALONE, FIRST_FUSION = 0.5, 0.3, 0.2
"""Loss weights: the joint path and the transformer alone, both at 1/4, and the fusion at 1/16."""

REFERENCE_NAMES = (
    (r"^resnet\.", "cnn."),
    (r"^up1\.", "token_ups.0."),
    (r"^up2\.", "token_ups.1."),
    (r"^up_c\.", "fusions.0."),
    (r"^up_c_([12])_1\.", r"fusions.\1."),
    (r"^up_c_1_2\.", "joint_ups.0."),
    (r"^up_c_2_2\.", "joint_ups.1."),
    (r"^final_(x\.2|[12]\.1)\.conv\.", r"head_\1."),
    (r"^final_", "head_"),
    (r"\.conv\.double_conv\.", ".path."),
    (r"\.conv\.identity\.", ".shortcut."),
    (r"\.attn_block\.W_g\.", ".gate.from_below."),
    (r"\.attn_block\.W_x\.", ".gate.from_skip."),
    (r"\.attn_block\.psi\.", ".gate.weight."),
    (r"^(fusions\.\d)\.W_g\.", r"\1.from_cnn."),
    (r"^(fusions\.\d)\.W_x\.", r"\1.from_tokens."),
    (r"^(fusions\.\d)\.W\.", r"\1.product."),
    (r"^(fusions\.\d)\.fc1\.", r"\1.channel.0."),
    (r"^(fusions\.\d)\.fc2\.", r"\1.channel.2."),
    (r"\.residual\.bn1\.", ".residual.0."),
    (r"\.residual\.conv1\.conv\.", ".residual.2."),
    (r"\.residual\.bn2\.", ".residual.3."),
    (r"\.residual\.conv2\.conv\.", ".residual.5."),
    (r"\.residual\.bn3\.", ".residual.6."),
    (r"\.residual\.conv3\.conv\.", ".residual.8."),
    (r"\.residual\.skip_layer\.conv\.", ".shortcut."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
)
"""The authors' names to ours."""
POSITIONS = "transformer.pos_embed"


class TransFuse(SegmentationNetwork):
    """TransFuse-L: the prediction comes from the joint path; two further maps help training.

    The transformer's table of positions fixes the size: smaller slices are padded to it.

    Args:
        input_size: (h, w) in pixels; what is no multiple of 16 is rounded up.
        inputs: M, residual maps as further input channels of both branches.
        stem: channels of the CNN's first convolution.
        bottlenecks: inner channels of the CNN's stages, whose maps have four times as many.
        stages: bottlenecks of each stage.
        tokens: channels of a token.
        blocks: of the transformer.
        heads: of each block.

    Raises:
        ValueError: if the heads do not divide a token's channels.
    """

    size_multiple = 1
    colours = True

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (224, 224),
        inputs: int = 0,
        stem: int = 64,
        bottlenecks: tuple[int, int, int] = (64, 128, 256),
        stages: tuple[int, int, int] = (3, 4, 6),
        tokens: int = 768,
        blocks: int = 12,
        heads: int = 12,
    ) -> None:
        super().__init__()
        if tokens % heads:
            raise ValueError(f"{heads} heads do not divide {tokens} channels of a token")
        self.input_maps = inputs
        self.grid = (-(-input_size[0] // PATCH), -(-input_size[1] // PATCH))
        self.input_size = (self.grid[0] * PATCH, self.grid[1] * PATCH)
        quarter, eighth, sixteenth = (4 * channels for channels in bottlenecks)
        self.token_ups = nn.ModuleList([UpBlock(tokens, eighth), UpBlock(eighth, quarter)])
        self.fusions = nn.ModuleList(
            BiFusion(width, other, reduction, FUSION_DROPOUT)
            for width, other, reduction in (
                (sixteenth, tokens, 4),
                (eighth, eighth, 2),
                (quarter, quarter, 1),
            )
        )
        self.joint_ups = nn.ModuleList(
            [UpBlock(sixteenth, eighth, gated=True), UpBlock(eighth, quarter, gated=True)]
        )
        self.head_x = nn.Sequential(
            _convolved(sixteenth, quarter, 1), _convolved(quarter, quarter, 3), _to_logits(quarter)
        )
        self.head_1 = nn.Sequential(_convolved(quarter, quarter, 3), _to_logits(quarter))
        self.head_2 = nn.Sequential(_convolved(quarter, quarter, 3), _to_logits(quarter))
        self.dropout = nn.Dropout2d(BRANCH_DROPOUT)
        self.apply(initialise_weights)
        self.cnn = ConvolutionalBranch(COLOURS + inputs, stem, bottlenecks, stages, BRANCH_DROPOUT)
        self.transformer = TransformerBranch(COLOURS + inputs, self.grid, tokens, blocks, heads)

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        return self.segment_supervised(image, residuals)[0][1]

    def segment_supervised(
        self,
        image: Tensor,
        residuals: Tensor | None,  # noqa: ARG002
    ) -> list[tuple[float, Tensor]]:
        """Loss weights and logits `(B, 1, h, w)`: the prediction first."""
        pixels = repeat_slice(pad_to_size(image, self.input_size), self.normalisation)
        height, width = image.shape[-2:]
        return [(weight, logits[..., :height, :width]) for weight, logits in self.maps(pixels)]

    def maps(self, pixels: Tensor) -> list[tuple[float, Tensor]]:
        """The three outputs for colours and residual maps, `(B, 3 + M, H, W)` of `input_size`."""
        cnn = self.cnn(pixels)
        tokens = self._from_transformer(pixels)
        first = self.fusions[0](cnn[0], tokens[0])
        joint = first
        for up, fusion, by_cnn, by_tokens in zip(
            self.joint_ups, self.fusions[1:], cnn[1:], tokens[1:], strict=True
        ):
            joint = up(joint, fusion(by_cnn, by_tokens))
        return [
            (PREDICTION, _resized(self.head_2(joint), self.input_size)),
            (TOKENS_ALONE, _resized(self.head_1(tokens[-1]), self.input_size)),
            (FIRST_FUSION, _resized(self.head_x(first), self.input_size)),
        ]

    def _from_transformer(self, pixels: Tensor) -> list[Tensor]:
        """The transformer's map at 1/16, and upsampled to 1/8, 1/4."""
        features = [self.dropout(self.transformer(pixels))]
        for up in self.token_ups:
            features.append(self.dropout(up(features[-1])))
        return features


def reference_state(network: TransFuse, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state dict with public weights in place.

    Args:
        network: of the same sizes; a table of positions of another square is resized to its grid.
        public: a state dict of torchvision's `resnet50`, which fills the CNN; or of DeiT-B, as its
            authors (`{"model": …}`) or timm publish it, which fills the transformer; or of a whole
            TransFuse. What is not filled stays as it is, so that two files go in one by one.

    Raises:
        ValueError: entries are missing, unexpected or mis-shaped, in one line.
    """
    state = unwrap(public)
    if "resnet.conv1.weight" in state:
        state.pop("transformer.cls_token", None)  # idle there
        given, branch = renamed(state, REFERENCE_NAMES), ""
    elif "conv1.weight" in state:
        given, branch = _under("cnn.", state, ("layer4.", "fc.")), "cnn"
    else:
        if {"cls_token", "pos_embed"} <= state.keys() and state["pos_embed"].ndim == 3:
            state["pos_embed"] = state["pos_embed"][:, 1:]
        given, branch = _under("transformer.", state, ("cls_token", "head.")), "transformer"
    if POSITIONS in given:
        given[POSITIONS] = on_grid(given[POSITIONS], network.grid)
    others = [f"{name}." for name, _ in network.named_children() if branch and name != branch]
    return filled(
        network.state_dict(),
        given,
        network=f"TransFuse's {branch}" if branch else "TransFuse",
        kept=tuple(others),
        widened=("cnn.conv1.weight", "transformer.patch_embed.proj.weight"),
        maps=network.further_inputs,
    )


def _under(prefix: str, state: Mapping[str, Tensor], dropped: tuple[str, ...]) -> dict[str, Tensor]:
    """A branch's weights under the network's names, without those that it has no place for."""
    return {prefix + key: value for key, value in state.items() if not key.startswith(dropped)}


def _convolved(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(inputs, outputs, kernel), nn.ReLU())


def _to_logits(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 1, 3, padding=1)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, C, h, w)` → `(B, C, *size)`; the corner pixels keep their centres."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
