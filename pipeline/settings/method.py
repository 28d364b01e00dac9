"""The method's sections: masked models, networks and their training."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from grcsf.models.peer_sizes import PEERS, context_fault, own_context, width_fault
from pipeline.settings.recipes.published import MASKED, WEIGHT_DECAY, own_training, training_fault
from pipeline.settings.recipes.start import Pretrained, start_fault
from pipeline.settings.resources import TrainingResources
from pipeline.settings.section import (
    LARGEST_WIDTH,
    MOST_PATCHES,
    NO_TRUTH,
    UNSET,
    Betas,
    Context,
    Count,
    Fraction,
    LabelledCases,
    Levels,
    Logger,
    Name,
    NotNegative,
    Optimizer,
    OrSam,
    Positive,
    Precision,
    Rate,
    Repeats,
    ResidualInput,
    Schedule,
    Section,
    Side,
    Start,
    Subsets,
    Warmup,
    require,
)
from pipeline.settings.training import Adversarial, Augmentation, Training

Scans = Annotated[Literal["all", "healthy"], Field(exclude_if=lambda scans: scans == "all")]
Peer = Literal["deeplabv3", "swin_unet", "trans_unet", "spin", "trans_fuse", "ut_net"]


class Mae(Section):
    """One masked model and its training: an MAE (section 4.3), or SimMIM instead (Table 7).

    `recipe` fills in what is not given of its training; results depend on what it fills in.
    """

    architecture: Literal["mae", "simmim"] = "mae"
    preset: Literal["large", "base", "small", "tiny"] = "large"
    image_size: Side = 224
    patch_size: Annotated[int, Field(ge=2, strict=True)] = 16
    train_mask_ratios: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.75)
    checkpoint: str | None = None
    slices_of: Scans = "all"
    epochs: Annotated[Count | None, UNSET] = 200
    steps: Annotated[Positive | None, UNSET] = None
    batch_size: Positive = 32
    recipe: Literal["paper", "mae"] = Field(default="paper", exclude=True)
    optimizer: Optimizer = "adam"
    learning_rate: Rate = 1e-3
    betas: Betas = (0.9, 0.999)
    weight_decay: Annotated[NotNegative | None, UNSET] = None
    warmup: Warmup = 0.0
    clip: Annotated[Rate | None, UNSET] = None
    schedule: Schedule = "step"
    decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), NO_TRUTH] = 0.9
    decay_epochs: Positive = 50
    precision: Precision = "fp32"
    adversarial: Adversarial | None = None
    augment: Augmentation = None
    picture_epochs: Count = 10
    logger: Logger = "tensorboard"
    resources: TrainingResources = Field(default=TrainingResources(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        recipe = given.get("recipe")
        filled = {**(MASKED.get(recipe, {}) if isinstance(recipe, str) else {}), **given}
        if filled.get("optimizer") == "adamw" and filled.get("weight_decay") is None:
            filled["weight_decay"] = WEIGHT_DECAY
        if given.get("steps") is not None:
            require(given.get("epochs") is None, "give either epochs or steps, not both")
            filled["epochs"] = None
        return filled

    @model_serializer(mode="wrap")
    def _without_refused_keys(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that this schedule refuses, so that the output can be read again."""
        refused = {"decay", "decay_epochs"} if self.schedule == "cosine" else set()
        return {key: value for key, value in written(self).items() if key not in refused}

    @model_validator(mode="after")
    def _check_recipe(self) -> Self:
        decay = sorted({"decay", "decay_epochs"} & self.model_fields_set)
        if self.schedule == "cosine" and decay:
            raise ValueError(f"{decay[0]} is for schedule step; schedule cosine falls to 0")
        if self.weight_decay is not None and self.optimizer == "adam":
            raise ValueError("weight_decay is for optimizer adamw")
        require(self.steps or self.epochs is not None, "give epochs or steps")
        return self

    @property
    def is_trained(self) -> bool:
        """Whether there is a training, and its checkpoint is not used as it is."""
        return bool(self.steps or self.epochs)

    @property
    def learns_from_cases(self) -> bool:
        """Whether it learns from training cases, and not from healthy scans alone."""
        return self.is_trained and self.slices_of == "all"

    def epochs_over(self, slices: int) -> int:
        """Epochs of a training on so many slices; the last one may be cut short by `steps`."""
        if self.steps is None:
            return self.epochs or 0
        return math.ceil(self.steps / max(1, math.ceil(slices / self.batch_size)))

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        sides = f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
        require(self.image_size % self.patch_size == 0, sides)
        patches = (self.image_size // self.patch_size) ** 2
        found = f"patch_size: found {self.patch_size}, which makes {patches} patches of a slice"
        require(patches <= MOST_PATCHES, f"{found}, expected at most {MOST_PATCHES}")
        usable = self.is_trained or self.checkpoint is not None
        require(usable, "epochs 0 needs a checkpoint to start from")
        usable = self.is_trained or self.slices_of == "all"
        require(usable, "slices_of is for a training; epochs 0 uses the checkpoint as it is")
        usable = self.architecture == "mae" or self.checkpoint is None
        require(usable, "checkpoint is for architecture 'mae'; 'simmim' is trained from scratch")
        # how many epochs make so many steps is known when the slices are counted
        if self.adversarial is not None and self.epochs is not None:
            start = self.adversarial.start_epoch
            expected = f"expected less than epochs {self.epochs}, or it would change nothing"
            require(start < self.epochs, f"adversarial.start_epoch: found {start}, {expected}")
        for ratio in self.train_mask_ratios:
            self.check_mask_ratio("train_mask_ratios", ratio)
        return self

    def check_mask_ratio(self, key: str, mask_ratio: float) -> None:
        """Refuse a ratio that hides none or all of a slice's patches."""
        patches = (self.image_size // self.patch_size) ** 2
        masked = round(patches * mask_ratio)
        found = f"found {mask_ratio:g}, which masks {masked} of {patches} patches"
        require(0 < masked < patches, f"{key}: {found}, expected 1 to {patches - 1}")


class Gcu(Section):
    """Global compensation on the skips (Eq. 1-2), or a unit that Table 7 puts in its place."""

    kind: Literal["se", "spatial", "coordinate", "attention_gate", "pyramid"] = "se"
    levels: Levels = (0, 1, 2, 3)
    start: Start = 1

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        expected = "expected 1: the kinds se, spatial and coordinate can start at 0"
        startable = self.start == 1 or self.kind in ("se", "spatial", "coordinate")
        require(startable, f"start: found {self.start} with kind {self.kind!r}, {expected}")
        return self


class Rcu(Section):
    """Regional compensation (Eq. 6): on which decoder levels, with which patches."""

    levels: Levels = (2, 1, 0)
    patch_sizes: tuple[Positive, ...] = (8, 8, 16)
    importance: bool = True
    start: Start = 1

    @model_validator(mode="after")
    def _check_patch_sizes(self) -> Self:
        found, wanted = len(self.patch_sizes), len(self.levels)
        expected = f"expected one for each of the {wanted} levels {self.levels}"
        require(found == wanted, f"patch_sizes: found {found}, {expected}")
        return self


class MaeEncoder(Section):
    """The encoder of a trained MAE in place of a UNet's own (Table 7)."""

    mae: Name
    frozen: bool = True


class Experiment(Section):
    """One row of the comparison: a network, its input and its training.

    `backbone`, `gcu` and `rcu` are for GRCSF only; null switches a unit off. `pretrained` and
    `training.recipe: own` are for other networks of Table 1.
    """

    model: Annotated[Literal["unet", "unetpp", "mae_unet", "grcsf", Peer], OrSam]
    backbone: Literal["unetpp", "unet"] = "unetpp"
    encoder: Literal["convolutional", "mobilenet"] = "convolutional"
    mae_encoder: MaeEncoder | None = None
    gcu: Gcu | None = Gcu()
    rcu: Rcu | None = Rcu()
    residuals: Name | None = None
    residual_input: ResidualInput = False
    context: Context = None
    width: Annotated[int, Field(ge=1, le=LARGEST_WIDTH, strict=True)] = 64
    pretrained: Pretrained = None
    subsets: Subsets = None
    labelled_cases: LabelledCases = None
    repeats: Repeats = 1
    training: Training = Training()
    resources: TrainingResources = Field(default=TrainingResources(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "training" not in given:
            return given
        return {**given, "training": own_training(given.get("model"), given["training"])}

    @model_serializer(mode="wrap")
    def _without_refused_keys(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that this model refuses or fixes, so that the output can be read again."""
        refused = set() if self.model == "grcsf" else {"backbone", "gcu", "rcu"}
        refused |= {"encoder"} if self.model in ("mae_unet", *PEERS) else set()
        refused |= {"context"} if own_context(self.model) else set()
        return {key: value for key, value in written(self).items() if key not in refused}

    @model_validator(mode="after")
    def _check_units(self) -> Self:
        if self.model != "grcsf":
            given = sorted({"backbone", "gcu", "rcu"} & self.model_fields_set)
            if given:
                raise ValueError(f"model {self.model!r} takes no {given[0]}; 'grcsf' does")
        elif self.gcu is None and self.rcu is None:
            raise ValueError(f"gcu and rcu are both off: write model: {self.backbone}")
        return self

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        if (self.model == "mae_unet") != (self.mae_encoder is not None):
            wants = "needs" if self.model == "mae_unet" else "takes no"
            raise ValueError(f"model {self.model!r} {wants} mae_encoder")
        if self.model in ("mae_unet", *PEERS) and "encoder" in self.model_fields_set:
            whose = "the MAE's" if self.model == "mae_unet" else "part of the network"
            raise ValueError(f"model {self.model!r} takes no encoder: its encoder is {whose}")
        if fault := context_fault(self.model, self.context) or width_fault(self.model, self.width):
            raise ValueError(fault)
        if self.encoder == "mobilenet" and self.width % 2:
            raise ValueError(f"width: found {self.width}, expected an even one with a mobilenet")
        return self

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        if fault := start_fault(self.model, self.pretrained):
            raise ValueError(f"pretrained: {fault}")
        if fault := training_fault(self.model, self.training):
            raise ValueError(f"training.{fault}")
        return self

    @model_validator(mode="after")
    def _check_residuals(self) -> Self:
        if self.uses_residuals != (self.residuals is not None):
            wants = "needs residuals"
            if not self.uses_residuals:
                wants = "takes no residuals; residual_input: true makes them input channels"
            without = " without rcu" if self.model == "grcsf" and self.rcu is None else ""
            given = " with residual_input" if self.residual_input else ""
            raise ValueError(f"model {self.model!r}{without}{given} {wants}")
        return self

    @property
    def neighbours(self) -> int:
        """Slices on each side that the network sees: those of its method, or `context`."""
        return own_context(self.model) or self.context or 0

    @property
    def uses_residuals(self) -> bool:
        """Whether the network sees residual maps: in its regional units, or as input channels."""
        return self.residual_input or (self.model == "grcsf" and self.rcu is not None)
