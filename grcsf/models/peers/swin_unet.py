"""SwinUnet: a U-shaped network of windowed attention alone [Table 1; Cao et al. 2022].

Encoder and decoder are Swin transformers (Liu et al. 2021), whose blocks and patch merging are
timm's. Between blocks a map is `(B, h, w, C)`. The state dict has the names of the published one.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import Tensor, nn

from grcsf.mae.checkpoint import unwrap
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peers.public_weights import filled
from grcsf.models.peers.renaming import renamed
from grcsf.models.peers.slices import COLOURS, pad_to_size, repeat_slice

PATCH = 4
"""Pixels of a patch's side."""
_DECODER = ("layers_up.", "concat_back_dim.", "norm_up.", "up.", "output.")
_WIDENED = ("patch_embed.proj.weight",)


class SwinUnet(SegmentationNetwork):
    """Swin transformer stages down to 1/32 and up again; each skip is the *input* of a stage.

    Windows fix the size: smaller slices are padded to it. The decoder has no blocks at the
    deepest scale, and at every other one as many as the encoder.

    Args:
        input_size: (h, w) in pixels, multiples of 32 times `window`: 224 with 7, 512 with 8.
        inputs: M, residual maps as further input channels.
        width: channels C of the first stage; they double at each.
        depths: blocks of each encoder stage.
        heads: of each encoder stage.
        window: tokens of a window's side.
        drop_path: stochastic depth of the last block; it rises from 0 in equal steps.

    Raises:
        ValueError: if the windows do not cover `input_size`, or heads do not divide channels.
    """

    size_multiple = 1
    colours = True

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (224, 224),
        inputs: int = 0,
        width: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        stages = range(len(depths))
        channels = [width * 2**stage for stage in stages]
        scales = [PATCH * 2**stage for stage in stages]
        grids = [(input_size[0] // scale, input_size[1] // scale) for scale in scales]
        _check(input_size, window, channels, heads)
        self.input_size, self.input_maps = input_size, inputs
        rates = iter(drop_path * block / max(sum(depths) - 1, 1) for block in range(sum(depths)))
        paths = [list(itertools.islice(rates, depth)) for depth in depths]

        def blocks(stage: int) -> nn.Sequential:
            return _blocks(channels[stage], grids[stage], heads[stage], window, paths[stage])

        self.patch_embed = PatchEmbedding(COLOURS + inputs, width)
        self.layers = nn.ModuleList(
            _in_order(blocks=blocks(stage), downsample=PatchMerging(channels[stage]))
            for stage in stages[:-1]
        )
        self.layers.append(_in_order(blocks=blocks(stages[-1])))
        self.norm = nn.LayerNorm(channels[-1])
        self.layers_up = nn.ModuleList([PatchExpanding(channels[-1], 2, channels[-1] // 2)])
        self.concat_back_dim = nn.ModuleList([nn.Identity()])  # its place in the published names
        for stage in reversed(stages[:-1]):
            own = channels[stage]
            self.concat_back_dim.append(nn.Linear(2 * own, own))
            up = {"upsample": PatchExpanding(own, 2, own // 2)} if stage else {}
            self.layers_up.append(_in_order(blocks=blocks(stage), **up))
        self.norm_up = nn.LayerNorm(width)
        self.up = PatchExpanding(width, PATCH, width)
        self.output = nn.Conv2d(width, 1, 1, bias=False)
        self.apply(_initialise)

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        tokens = self.patch_embed(
            repeat_slice(pad_to_size(image, self.input_size), self.normalisation)
        )
        skips = []
        for layer in self.layers:
            skips.append(tokens)
            tokens = layer(tokens)
        tokens = self.layers_up[0](self.norm(tokens))
        for number, skip in enumerate(reversed(skips[:-1]), start=1):
            joined = self.concat_back_dim[number](torch.cat([tokens, skip], dim=-1))
            tokens = self.layers_up[number](joined)
        features = self.up(self.norm_up(tokens)).permute(0, 3, 1, 2)
        logits: Tensor = self.output(features)
        return logits[..., : image.shape[-2], : image.shape[-1]]


class PatchEmbedding(nn.Module):
    """Patches to normalised tokens: `(B, inputs, h, w)` → `(B, h / 4, w / 4, width)`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        tokens: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return tokens


class PatchExpanding(nn.Module):
    """Each token to `side`² tokens: `(B, h, w, inputs)` → `(B, h · side, w · side, outputs)`.

    The opposite of patch merging.
    """

    def __init__(self, inputs: int, side: int, outputs: int) -> None:
        super().__init__()
        self.side = side
        self.expand = nn.Linear(inputs, side**2 * outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        spread = self.expand(tokens).unflatten(-1, (self.side, self.side, -1))
        spread = spread.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # rows, then columns
        expanded: Tensor = self.norm(spread)
        return expanded


def reference_state(network: SwinUnet, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """Published weights as a state dict of a network; the network stays as it is.

    Args:
        network: which is to have them.
        public: of a whole SwinUnet; or of Swin-T, as Microsoft (`{"model": …}`) or timm publish it,
            which fills the encoder, and each decoder stage's blocks with those of the encoder stage
            of its scale, as SwinUnet's authors do; what is left keeps the network's own values.

    Returns:
        A complete state dict; tables of other windows are resized.

    Raises:
        ValueError: if entries are missing, unexpected, mis-shaped or not finite, in one line.
    """
    own = network.state_dict()
    buffers = ("attn_mask", "relative_position_index")  # ours make them anew
    state = {key: value for key, value in unwrap(public).items() if not key.endswith(buffers)}
    if any(key.startswith("layers_up.") for key in state):
        given = _fitted(state, own)
        return filled(own, given, network="SwinUnet", widened=_WIDENED, maps=network.further_inputs)
    last = max(int(key.split(".")[1]) for key in own if key.startswith("layers."))
    if f"layers.{last}.downsample.norm.weight" in state:  # timm merges before a stage, not after it
        rules = [(rf"^layers\.{n + 1}\.downsample", f"layers.{n}.downsample") for n in range(last)]
        state = renamed(state, rules)
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    given = _fitted(state, own)
    for stage in range(last):
        blocks, copies = f"layers.{stage}.blocks.", f"layers_up.{last - stage}.blocks."
        given |= {
            key.replace(blocks, copies): value.clone()  # they part in training
            for key, value in given.items()
            if key.startswith(blocks)
        }
    return filled(
        own,
        given,
        network="SwinUnet's encoder",
        kept=_DECODER,
        widened=_WIDENED,
        maps=network.further_inputs,
    )


def _fitted(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with tables of relative positions, `((2w − 1)², heads)`, for our windows.

    Other tables stay as they are.
    """
    fitted = dict(state)
    for key, table in state.items():
        if key.endswith("relative_position_bias_table") and key in own and table.ndim == 2:
            before, after = (math.isqrt(len(each)) for each in (table, own[key]))
            if before not in (0, after) and before**2 == len(table) and table.numel():
                square = table.T.reshape(1, -1, before, before)
                square = F.interpolate(square, (after, after), mode="bicubic", align_corners=False)
                fitted[key] = square[0].flatten(1).T.contiguous()
    return fitted


def _check(
    input_size: tuple[int, int], window: int, channels: list[int], heads: tuple[int, ...]
) -> None:
    multiple = PATCH * 2 ** (len(channels) - 1) * window
    if any(side < multiple or side % multiple for side in input_size):
        raise ValueError(
            f"windows of {window} need an input_size of multiples of {multiple} pixels, found "
            f"{input_size[0]}×{input_size[1]} (224×224 takes windows of 7, 512×512 of 8)"
        )
    for own, number in zip(channels, heads, strict=True):
        if own % number:
            raise ValueError(f"{number} heads do not divide {own} channels; change width or heads")


def _blocks(
    channels: int, grid: tuple[int, int], heads: int, window: int, paths: list[float]
) -> nn.Sequential:
    """Blocks `(B, h, w, C)` → the same; every second one's windows are shifted by half."""
    return nn.Sequential(
        *(
            SwinTransformerBlock(
                channels,
                grid,
                num_heads=heads,
                window_size=window,
                shift_size=window // 2 if number % 2 else 0,
                drop_path=path,
            )
            for number, path in enumerate(paths)
        )
    )


def _in_order(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _initialise(module: nn.Module) -> None:
    """As Swin transformers start; tables are drawn by timm, convolutions by torch."""
    if isinstance(module, nn.Linear) and not module.weight.is_meta:
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
