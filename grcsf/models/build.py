"""Segmentation networks by name. Sizes and names live here and nowhere else."""

from collections.abc import Callable, Collection
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple

from torch import nn

from grcsf.mae.model import build_mae
from grcsf.models.attention import CoordinateAttention, SpatialAttention
from grcsf.models.blocks import LEVELS, Backbone, SegmentationNetwork
from grcsf.models.build_peers import build_peer
from grcsf.models.gcu import GlobalCompensationUnit, SkipUnit
from grcsf.models.grcsf import GRCSF
from grcsf.models.mae_unet import MaeEncoder, MaeUNet
from grcsf.models.peer_sizes import PEERS
from grcsf.models.rcu import ImportanceScore, RegionalCompensationUnit
from grcsf.models.skip_attention import AttentionGate, PyramidAttention
from grcsf.models.unet import UNet
from grcsf.models.unetpp import UNetPlusPlus


def _mobilenet(width: int, inputs: int) -> nn.Module:
    from grcsf.models.mobilenet import MobileNetEncoder  # with all of timm's networks

    return MobileNetEncoder(width, inputs)


MODELS = ("unet", "unetpp", "mae_unet", "grcsf", *PEERS)
BACKBONES: dict[str, Callable[[int, nn.Module | None, int], Backbone]] = {
    "unet": UNet,
    "unetpp": UNetPlusPlus,
}
ENCODERS: dict[str, Callable[[int, int], nn.Module] | None] = {
    "convolutional": None,
    "mobilenet": _mobilenet,
}
SKIP_UNITS: dict[str, Callable[..., SkipUnit]] = {
    "se": GlobalCompensationUnit,
    "spatial": partial(GlobalCompensationUnit, attention=lambda _: SpatialAttention()),
    "coordinate": partial(GlobalCompensationUnit, attention=CoordinateAttention, bias=False),
    "attention_gate": AttentionGate,
    "pyramid": PyramidAttention,
}
WITHOUT_START = ("attention_gate", "pyramid")
"""Skip units that have no R, and so no factor before it."""

SCORE_HIDDEN = {3: 64, 2: 64, 1: 32, 0: 64}
"""First hidden layer of the importance score, by level; Table 6's counts fix it but at level 3."""


class GlobalUnits(NamedTuple):
    """Global compensation: the kind of unit on the skips, and its levels.

    `kind` is one of `SKIP_UNITS` (`se` = paper); a level is 0 (full scale) to 3 (1/8). `start` 1 is
    Eq. 2 as printed, 0 gives R a learnable factor that starts at 0.
    """

    kind: str = "se"
    levels: tuple[int, ...] = (0, 1, 2, 3)
    start: int = 1


class RegionalUnits(NamedTuple):
    """Regional compensation: its decoder levels, their patch sizes, and whether φ weighs them.

    `patch_sizes` are P in pixels of each level's own scale, in the order of `levels`: (8, 8, 16)
    for 224 pixels, (16, 16, 32) for 512 [§4.3]. Without `importance` φ is 1 [Table 3]. The
    attention's factor starts at `start`, 1 or 0.
    """

    levels: tuple[int, ...] = (2, 1, 0)
    patch_sizes: tuple[int, ...] = (8, 8, 16)
    importance: bool = True
    start: int = 1


class PretrainedEncoder(NamedTuple):
    """The MAE whose encoder `mae_unet` uses, with fresh weights; training leaves `frozen` ones.

    See `grcsf.mae.model.build_mae` for the other fields.
    """

    preset: str
    image_size: int = 224
    patch_size: int = 16
    frozen: bool = True


PAPER_GCU = GlobalUnits()
PAPER_RCU = RegionalUnits()


def uses_residuals(
    name: str, rcu: RegionalUnits | None = PAPER_RCU, *, residual_input: bool = False
) -> bool:
    """Whether the network of this name, with or without regional units, needs residual maps.

    Raises:
        ValueError: if the name is unknown.
    """
    _check_name("model", name, MODELS)
    return residual_input or (name == "grcsf" and rcu is not None)


def build_segmentation_model(
    name: str,
    *,
    width: int = 64,
    input_size: tuple[int, int] = (224, 224),
    encoder: str = "convolutional",
    backbone: str = "unetpp",
    gcu: GlobalUnits | None = PAPER_GCU,
    rcu: RegionalUnits | None = PAPER_RCU,
    residual_maps: int = 2,
    residual_input: bool = False,
    mae: PretrainedEncoder | None = None,
    auxiliary: bool = False,
    context: int = 0,
) -> SegmentationNetwork:
    """Build a network whose weights come from torch's global generator.

    Every network maps an image `(B, 1 + 2c, h, w)` in [0, 1] and residual maps `(B, R, h, w)`, or
    None where it uses none, to logits `(B, 1, h, w)`; see `SegmentationNetwork`. He starts the
    weights, but those of `PEERS`, which start as their authors' do.

    Args:
        name: one of `MODELS`.
        width: filters at full scale (64 = paper); all others follow from it.
        input_size: (h, w) of the network's usual input in pixels; patches must fit into it. Some of
            `PEERS` take no larger slices.
        encoder: one of `ENCODERS`; not for `mae_unet` and `PEERS`.
        backbone: one of `BACKBONES`; only for `grcsf`.
        gcu: units on the skips, or None; only for `grcsf`.
        rcu: units in the decoder, or None; only for `grcsf`.
        residual_maps: R, at least 1; only with regional units or `residual_input`.
        residual_input: give the maps to the first layer too, as channels that follow the image.
        mae: only for `mae_unet`, which needs it.
        auxiliary: with heads that help training; only for `ut_net`.
        context: c, neighbours on each side as further input channels; `spin` has its own.

    Raises:
        ValueError: if a name is unknown, a level or size out of range, `grcsf` has no unit, or
            `mae_unet` no MAE.
    """
    _check_name("model", name, MODELS)
    _check_parts(name, encoder, auxiliary=auxiliary)
    if name == "grcsf" and gcu is None and rcu is None:
        raise ValueError(f"grcsf without gcu and rcu is its backbone: build {backbone!r}")
    if residual_input and residual_maps < 1:
        raise ValueError(f"residual_maps must be at least 1, found {residual_maps}")
    inputs = 2 * context + (residual_maps if residual_input else 0)
    network: SegmentationNetwork
    if name in PEERS:
        network = build_peer(name, width, input_size, inputs, auxiliary=auxiliary)
    elif name == "mae_unet":
        network = _mae_unet(mae, encoder, width, inputs)
    else:
        network = _backbone(backbone if name == "grcsf" else name, encoder, width, inputs)
    if name == "grcsf" and isinstance(network, Backbone):
        network = _with_units(network, gcu, rcu, residual_maps, input_size)
    if context:
        network.see_neighbours(context)
    return network


def _with_units(
    network: Backbone,
    gcu: GlobalUnits | None,
    rcu: RegionalUnits | None,
    residual_maps: int,
    input_size: tuple[int, int],
) -> GRCSF:
    gcus = _gcus(network, gcu)  # whose weights are drawn before those of the regional units
    return GRCSF(network, gcus, _rcus(network, rcu, residual_maps, input_size))


def _mae_unet(mae: PretrainedEncoder | None, encoder: str, width: int, input_maps: int) -> MaeUNet:
    if mae is None or encoder != "convolutional":
        raise ValueError(f"mae_unet needs an MAE and no encoder, found {mae} and {encoder!r}")
    autoencoder = build_mae(mae.preset, image_size=mae.image_size, patch_size=mae.patch_size)
    return MaeUNet(MaeEncoder(autoencoder, frozen=mae.frozen), width, input_maps)


def _backbone(name: str, encoder: str, width: int, input_maps: int) -> Backbone:
    _check_name("backbone", name, BACKBONES)
    _check_name("encoder", encoder, ENCODERS)
    make = ENCODERS[encoder]
    return BACKBONES[name](width, make(width, 1 + input_maps) if make else None, input_maps)


def _gcus(backbone: Backbone, gcu: GlobalUnits | None) -> list[SkipUnit | None]:
    if gcu is None:
        return [None] * LEVELS
    _check_name("gcu kind", gcu.kind, SKIP_UNITS)
    _check_levels("gcu", gcu.levels)
    if gcu.kind in WITHOUT_START and gcu.start != 1:
        raise ValueError(f"gcu kind {gcu.kind!r} has no start, found {gcu.start}")
    start = {} if gcu.kind in WITHOUT_START else {"start": gcu.start}
    make = partial(SKIP_UNITS[gcu.kind], **start)
    return [
        make(backbone.filters[level]) if level in gcu.levels else None for level in range(LEVELS)
    ]


def _rcus(
    backbone: Backbone, rcu: RegionalUnits | None, residual_maps: int, input_size: tuple[int, int]
) -> list[nn.Module | None]:
    units: list[nn.Module | None] = [None] * LEVELS
    if rcu is None:
        return units
    _check_levels("rcu", rcu.levels)
    _check_patches(rcu, input_size)
    for level, patch_size in zip(rcu.levels, rcu.patch_sizes, strict=True):
        channels = backbone.filters[level]
        importance = (
            ImportanceScore(channels, patch_size, SCORE_HIDDEN[level]) if rcu.importance else None
        )
        units[level] = RegionalCompensationUnit(
            channels, patch_size, importance, residual_maps, start=rcu.start
        )
    return units


def _check_parts(name: str, encoder: str, *, auxiliary: bool) -> None:
    if name in PEERS and encoder != "convolutional":
        raise ValueError(f"{name} has an encoder of its own, found {encoder!r}")
    if auxiliary and name not in PEERS:
        raise ValueError(f"{name} has no auxiliary heads to switch on")


def _check_name(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = get_close_matches(name, list(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {kind} {name!r}, expected one of {', '.join(known)}{hint}")


def _check_levels(unit: str, levels: tuple[int, ...]) -> None:
    known = range(LEVELS)
    if not levels or len(set(levels)) != len(levels) or not set(levels) <= set(known):
        raise ValueError(
            f"{unit} levels must be some of 0 to {LEVELS - 1}, each once, found {tuple(levels)}"
        )


def _check_patches(rcu: RegionalUnits, input_size: tuple[int, int]) -> None:
    if len(rcu.patch_sizes) != len(rcu.levels):
        raise ValueError(
            f"expected {len(rcu.levels)} patch_sizes, one for each of the levels "
            f"{tuple(rcu.levels)}, found {tuple(rcu.patch_sizes)}"
        )
    for level, patch_size in zip(rcu.levels, rcu.patch_sizes, strict=True):
        # ceil, because inputs are padded before they are halved
        largest = min(-(-side // 2**level) for side in input_size)
        if not 1 <= patch_size <= largest:
            raise ValueError(
                f"patch size at 1/{2**level} scale must be 1 to {largest} for input size "
                f"{tuple(input_size)}, found {patch_size}"
            )
