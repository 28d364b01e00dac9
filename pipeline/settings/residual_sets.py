"""Residual sets: maps of masked models, or a network's Grad-CAM in their place."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.settings.section import MOST_MAPS, MOST_PASSES, Fraction, Name, Section, require


class ResidualMap(Section):
    """One map of a residual set: its MAE, its mask ratio and its number of passes."""

    mae: Name
    mask_ratio: Fraction
    passes: Annotated[int, Field(ge=1, le=MOST_PASSES, strict=True)]


MaskScheme = Literal["random", "stratified", "tissue"]
PRESETS = {  # masks and visible
    "paper": ("random", "paste"),
    "fast": ("stratified", "ignore"),
    "lean": ("stratified", "ignore"),
    "tissue": ("tissue", "ignore"),
}


class Residuals(Section):
    """A residual set; `preset` (`paper`, `fast`, `lean` or `tissue`) fills in what is not given."""

    maps: Annotated[tuple[ResidualMap, ...], Field(min_length=1, max_length=MOST_MAPS)]
    masks: MaskScheme
    visible: Literal["paste", "ignore", "predict"]
    difference: Literal["abs", "squared", "ssim", "signed"] = "abs"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"

    @model_validator(mode="after")
    def _check_passes(self) -> Self:
        found = sum(part.passes for part in self.maps)
        require(found <= MOST_PASSES, f"found {found} passes, expected at most {MOST_PASSES}")
        return self

    @property
    def signed(self) -> bool:
        """Whether its maps are below 0 where the image is darker than foreseen."""
        return self.difference == "signed"

    @property
    def titles(self) -> tuple[str, ...]:
        """The heading of each map in pictures and reports."""
        plain = [f"Residual, {part.mask_ratio:.0%} masked" for part in self.maps]
        # maps of the same ratio differ in their MAE, or only in their place
        named = [f"{title}, {part.mae}" for title, part in zip(plain, self.maps, strict=True)]
        numbered = [f"{title}, map {place}" for place, title in enumerate(plain, start=1)]
        candidates = (plain, named, numbered)
        return tuple(next(titles for titles in candidates if len(set(titles)) == len(titles)))

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "preset" not in given:
            return given
        preset = given["preset"]
        known = isinstance(preset, str) and preset in PRESETS
        require(known, f"preset: found {preset!r}, expected 'paper', 'fast', 'lean' or 'tissue'")
        masks, visible = PRESETS[preset]
        filled = {"masks": masks, "visible": visible, **given}
        del filled["preset"]
        if isinstance(maps := filled.get("maps"), list):
            filled["maps"] = [_with_passes(part, preset) for part in maps]
        return filled


def _with_passes(given: Any, preset: str) -> Any:
    """A map with its preset's passes; `fast` has passes for the paper's two ratios only."""
    if not isinstance(given, dict):
        return given
    if preset == "paper":
        return {"passes": 5, **given}
    ratio = given.get("mask_ratio")
    if preset in ("lean", "tissue") and isinstance(ratio, float) and 0 < ratio < 1:
        # the fewest passes in which stratified masks can hide every patch
        return {"passes": math.ceil(1 / ratio - 1e-9), **given}
    # stratified masks hide every patch equally often in 2 passes at 1/2, and in 4 at 3/4
    balanced = {0.5: 2, 0.75: 4}
    return {"passes": balanced[ratio], **given} if preset == "fast" and ratio in balanced else given


class GradCam(Section):
    """Grad-CAM of a trained experiment in place of residual maps (Table 7)."""

    grad_cam: Name
    signed: ClassVar = False

    @property
    def titles(self) -> tuple[str, ...]:
        """The heading of its map in pictures and reports."""
        return (f"Grad-CAM of {self.grad_cam}",)


def _residual_set_tag(given: Any) -> str:
    names_network = isinstance(given, GradCam) or (isinstance(given, dict) and "grad_cam" in given)
    return "[GradCam]" if names_network else "[Residuals]"


ResidualSet = Annotated[
    Annotated[Residuals, Tag("[Residuals]")] | Annotated[GradCam, Tag("[GradCam]")],
    Discriminator(_residual_set_tag),
]
