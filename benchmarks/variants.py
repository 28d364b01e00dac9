"""The ways to make residual maps that `residual_maps.py` compares, and their model."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from grcsf.mae.build import MaskedModel
from grcsf.mae.model import build_mae
from grcsf.mae.precision import InFloat32, Precision, at_precision, compile_layers
from grcsf.mae.transformer import Attention
from grcsf.reference import reference_residuals
from grcsf.residuals import Visible, multi_ratio_residuals
from pipeline.networks.devices import multiplies_bf16
from pipeline.networks.reconstruction import PassMasks, pass_masks
from pipeline.settings import MaskScheme, ResidualMap

RATIOS = (0.5, 0.75)
LOOP = "plain loop, fp32"
LOWERED = "batched, bf16"
FUSED = f"{LOWERED}, attention fused"
COMPILED = f"{LOWERED}, compiled"
THROUGHOUT = f"{LOWERED}, last layer, too"
SKIPPING = ", empty slices skipped"
SCHEMES: dict[str, tuple[MaskScheme, Visible, tuple[int, int]]] = {
    "5 + 5": ("random", "paste", (5, 5)),
    "fast 2 + 4": ("stratified", "ignore", (2, 4)),
    "lean 2 + 2": ("stratified", "ignore", (2, 2)),
    "tissue 2 + 2": ("tissue", "ignore", (2, 2)),
}
Variant = Callable[[Tensor], Tensor]  # images (B, 1, h, w) → maps (B, 2, h, w)


def random_model(preset: str) -> MaskedModel:
    """Random weights whose predictions lie around 0.5, where clipping does not hide errors."""
    torch.manual_seed(0)
    model = build_mae(preset).eval()
    torch.nn.init.constant_(model.decoder_pred.bias, 0.5)
    return model


def build_variants(models: list[MaskedModel], device: torch.device) -> dict[str, Variant]:
    """What is compared, by the name that the table prints; 5 + 5 passes unless it says so."""
    batched = {"batched, fp32": partial(in_batches, models, "5 + 5", torch.float32)}
    variants: dict[str, Variant] = {LOOP: partial(in_turn, models), **batched}
    lower: list[Precision] = ["bf16"] if multiplies_bf16(device) else []
    if device.type == "cpu":
        lower.append("int8")
    for precision in lower:
        lowered = [at_precision(one, precision) for one in models]
        if device.type == "cpu" and precision == "bf16":
            variants[FUSED] = partial(in_batches, fused(lowered), "5 + 5", torch.bfloat16)
        if precision == "bf16":
            variants[THROUGHOUT] = partial(
                in_batches, without_float32_layer(lowered), "5 + 5", torch.bfloat16
            )
            variants[COMPILED] = partial(in_batches, compiled(lowered), "5 + 5", torch.bfloat16)
        for scheme in SCHEMES:
            name = f"batched, {precision}" + ("" if scheme == "5 + 5" else f", {scheme}")
            variants[name] = partial(in_batches, lowered, scheme, torch.bfloat16)
    return variants


def fused(models: list[MaskedModel]) -> list[MaskedModel]:
    """Copies whose attention is one call, as torch advises, and not two products."""
    copies = copy.deepcopy(models)
    for model in copies:
        for part in model.modules():
            if isinstance(part, Attention):
                part.fused = True
    return copies


def without_float32_layer(models: list[MaskedModel]) -> list[MaskedModel]:
    """Copies whose last transformer layer multiplies in bf16 as the others do."""
    copies = copy.deepcopy(models)
    for model in copies:
        for name, part in list(model.named_modules()):
            if isinstance(part, InFloat32):
                for layer in part.modules():
                    if isinstance(layer, torch.nn.Linear):
                        layer.to(torch.bfloat16)
                model.set_submodule(name, part.layer)
    return copies


def compiled(models: list[MaskedModel]) -> list[MaskedModel]:
    """Copies whose layers `resources.compile` joins."""
    copies = copy.deepcopy(models)
    for model in copies:
        compile_layers(model)
    return copies


def in_turn(models: list[MaskedModel], images: Tensor) -> Tensor:
    """The plain loop."""
    masks = [drawn.masks for drawn in masks_of("5 + 5", models, images)]
    return reference_residuals(models, images, masks, visible="paste", kind="abs")


def in_batches(
    models: list[MaskedModel], scheme: str, dtype: torch.dtype, images: Tensor
) -> Tensor:
    """As the stage makes them."""
    masks, counted = zip(*masks_of(scheme, models, images), strict=True)
    return multi_ratio_residuals(
        models,
        images,
        masks,
        visible=SCHEMES[scheme][1],
        kind="abs",
        counted=counted,
        dtype=dtype,
    )


def masks_of(scheme: str, models: list[MaskedModel], images: Tensor) -> list[PassMasks]:
    """Each ratio's masks of all slices, (slices, passes, patches), and the patches that count."""
    way, _, passes = SCHEMES[scheme]
    shown = images.cpu()
    drawn = [
        [
            pass_masks("benchmark", z, image, chosen, way, model, seed=0)
            for z, image in enumerate(shown)
        ]
        for chosen, model in (
            (ResidualMap(mae="mae", mask_ratio=ratio, passes=count), model)
            for ratio, count, model in zip(RATIOS, passes, models, strict=True)
        )
    ]
    return [PassMasks(*map(torch.stack, zip(*of_ratio, strict=True))) for of_ratio in drawn]


def shown_slices(images: Tensor) -> Tensor:
    """(B,) bool, 1 = not constant."""
    return images.flatten(1).amax(dim=1) > images.flatten(1).amin(dim=1)


def both_ways(variants: dict[str, Variant]) -> dict[str, Variant]:
    """Every variant, and all but the loops of fp32 without the empty slices, too."""
    skipping = {
        f"{name}{SKIPPING}": partial(without_empty, run)
        for name, run in variants.items()
        if "bf16" in name or "int8" in name
    }
    return {**variants, **skipping}


def without_empty(run: Variant, images: Tensor) -> Tensor:
    """A variant that is given slices that are not constant only."""
    return run(images[shown_slices(images)])
