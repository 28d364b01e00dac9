"""Segmentation networks by name. Sizes and names live here and nowhere else."""

from difflib import get_close_matches

from torch import nn

from grcsf.models.gcu import GlobalCompensationUnit
from grcsf.models.grcsf import GRCSF
from grcsf.models.rcu import ImportanceScore, RegionalCompensationUnit
from grcsf.models.unet import UNet
from grcsf.models.unetpp import UNetPlusPlus

MODELS = ("unet", "unetpp", "grcsf")
RESIDUAL_MODELS = frozenset({"grcsf"})

RCU_LEVELS = (2, 1, 0)
"""Decoder levels with a regional unit, in the order of `patch_sizes`: 1/4, 1/2, full scale."""

SCORE_HIDDEN = {2: 64, 1: 32, 0: 64}
"""First hidden layer of the importance score, by level; Table 6's counts fix it."""


def uses_residuals(name: str) -> bool:
    """Whether the network of this name needs residual maps.

    Raises:
        ValueError: if the name is unknown.
    """
    _check_name(name)
    return name in RESIDUAL_MODELS


def build_segmentation_model(
    name: str,
    *,
    width: int = 64,
    input_size: tuple[int, int] = (224, 224),
    patch_sizes: tuple[int, int, int] = (8, 8, 16),
    residual_maps: int = 2,
) -> nn.Module:
    """Build a network with He-initialised weights from torch's global generator.

    Every network maps an image `(B, 1, h, w)` in [0, 1] and residual maps `(B, R, h, w)`, or
    None where it uses none, to logits `(B, 1, h, w)`, whatever h and w.

    Args:
        name: one of `MODELS`.
        width: filters at full scale (64 = paper); all others follow from it.
        input_size: (h, w) in pixels that the network is meant for; patches must fit into it.
        patch_sizes: P at 1/4, 1/2 and full scale, in pixels of that scale: (8, 8, 16) for 224,
            (16, 16, 32) for 512 [§4.3]. Only for networks that use residual maps.
        residual_maps: R, at least 1. Only for networks that use residual maps.

    Raises:
        ValueError: if the name is unknown or a size is out of range.
    """
    _check_name(name)
    if name == "unet":
        return UNet(width)
    if name == "unetpp":
        return UNetPlusPlus(width)
    _check_patches(patch_sizes, input_size)
    return _grcsf(width, patch_sizes, residual_maps)


def _grcsf(width: int, patch_sizes: tuple[int, int, int], residual_maps: int) -> GRCSF:
    backbone = UNetPlusPlus(width)
    gcus = [GlobalCompensationUnit(channels) for channels in backbone.filters[:-1]]
    rcus: list[nn.Module | None] = [None] * len(gcus)
    for level, patch_size in zip(RCU_LEVELS, patch_sizes, strict=True):
        channels = backbone.filters[level]
        importance = ImportanceScore(channels, patch_size, SCORE_HIDDEN[level])
        rcus[level] = RegionalCompensationUnit(channels, patch_size, importance, residual_maps)
    return GRCSF(backbone, gcus, rcus)


def _check_name(name: str) -> None:
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}{hint}")


def _check_patches(patch_sizes: tuple[int, ...], input_size: tuple[int, int]) -> None:
    if len(patch_sizes) != len(RCU_LEVELS):
        raise ValueError(f"expected {len(RCU_LEVELS)} patch_sizes, found {tuple(patch_sizes)}")
    for level, patch_size in zip(RCU_LEVELS, patch_sizes, strict=True):
        # ceil, because inputs are padded before they are halved
        largest = min(-(-side // 2**level) for side in input_size)
        if not 1 <= patch_size <= largest:
            raise ValueError(
                f"patch size at 1/{2**level} scale must be 1 to {largest} for input size "
                f"{tuple(input_size)}, found {patch_size}"
            )
