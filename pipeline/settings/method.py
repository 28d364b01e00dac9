"""The method's sections: masked models, residual maps, networks and their training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.section import (
    Count,
    Fraction,
    Name,
    Positive,
    Precision,
    Rate,
    Section,
)


class Adversarial(Section):
    """A PatchGAN term added to a masked model's loss (section 4.3), after its first epochs."""

    weight: Rate = 0.01
    learning_rate: Rate = 2e-4
    start_epoch: Count = 10


class Mae(Section):
    """One masked model and its training (section 4.3): an MAE, or SimMIM in its place (Table 7)."""

    architecture: Literal["mae", "simmim"] = "mae"
    preset: Literal["large", "base", "small", "tiny"] = "large"
    image_size: Annotated[int, Field(ge=32)] = 224
    patch_size: Annotated[int, Field(ge=2)] = 16
    train_mask_ratios: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.75)
    checkpoint: str | None = None
    epochs: Count = 200
    batch_size: Positive = 32
    learning_rate: Rate = 1e-3
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    decay_epochs: Positive = 50
    precision: Precision = "fp32"
    adversarial: Adversarial | None = None
    picture_epochs: Count = 10

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
            )
        if self.epochs == 0 and self.checkpoint is None:
            raise ValueError("epochs 0 needs a checkpoint to start from")
        if self.architecture == "simmim" and self.checkpoint is not None:
            raise ValueError(
                "checkpoint is for architecture 'mae'; 'simmim' is trained from scratch"
            )
        for ratio in self.train_mask_ratios:
            self.check_mask_ratio("train_mask_ratios", ratio)
        return self

    def check_mask_ratio(self, key: str, mask_ratio: float) -> None:
        """Refuse a ratio that hides none or all of a slice's patches.

        Raises:
            ValueError: with `key`, the ratio found and the counts allowed.
        """
        patches = (self.image_size // self.patch_size) ** 2
        masked = round(patches * mask_ratio)
        if not 0 < masked < patches:
            raise ValueError(
                f"{key}: found {mask_ratio:g}, which masks {masked} of {patches} patches, "
                f"expected 1 to {patches - 1}"
            )


class ResidualMap(Section):
    """One map of a residual set: which MAE reconstructs, under which mask ratio, how often."""

    mae: Name
    mask_ratio: Fraction
    passes: Positive


class Residuals(Section):
    """A residual set; `preset` (paper: random masks, fast: stratified) fills what is not given."""

    maps: Annotated[tuple[ResidualMap, ...], Field(min_length=1)]
    masks: Literal["random", "stratified"]
    visible: Literal["paste", "ignore", "predict"]
    difference: Literal["abs", "squared", "ssim"] = "abs"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "preset" not in given:
            return given
        presets = {"paper": ("random", "paste", (5, 5)), "fast": ("stratified", "ignore", (2, 4))}
        filled = dict(given)
        preset = filled.pop("preset")
        if preset not in presets:
            raise ValueError(f"preset: found {preset!r}, expected 'paper' or 'fast'")
        masks, visible, passes = presets[preset]
        filled.setdefault("masks", masks)
        filled.setdefault("visible", visible)
        maps = filled.get("maps")
        if isinstance(maps, list) and len(maps) == len(passes):
            filled["maps"] = [
                {"passes": count, **one} if isinstance(one, dict) else one
                for one, count in zip(maps, passes, strict=True)
            ]
        return filled


class Plateau(Section):
    """Halve the rate when the validation loss stands still (orCaScore, section 4.3)."""

    factor: Fraction = 0.5
    patience: Positive = 5


class Training(Section):
    """Segmentation training (section 4.3)."""

    loss: Literal["mixed", "focal"] = "mixed"
    batch_size: Positive = 21
    epochs: Positive = 200
    learning_rate: Rate = 1e-4
    warmup_epochs: Count = 5
    warmup_factor: Annotated[float, Field(ge=1)] = 10.0
    plateau: Plateau | None = None
    patience: Positive = 10
    lesion_free_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    precision: Precision = "fp32"


class Rcu(Section):
    """Regional compensation (Eq. 6): the patches at 1/4, 1/2 and full scale."""

    patch_sizes: tuple[Positive, Positive, Positive] = (8, 8, 16)


class Experiment(Section):
    """One row of the comparison: a network, what it sees, how it is trained."""

    model: Literal["unet", "unetpp", "grcsf"]
    residuals: Name | None = None
    width: Positive = 64
    rcu: Rcu = Rcu()
    subsets: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    training: Training = Training()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.model != "grcsf" and "rcu" in self.model_fields_set:
            raise ValueError(f"model {self.model!r} takes no rcu; 'grcsf' does")
        if (self.model == "grcsf") != (self.residuals is not None):
            wants = "needs residuals" if self.model == "grcsf" else "takes no residuals"
            raise ValueError(f"model {self.model!r} {wants}")
        return self
