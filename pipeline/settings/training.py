"""The sections of a training: loss, optimiser, schedule, and how far it varies its slices."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipeline.settings.section import (
    NO_TRUTH,
    UNSET,
    Betas,
    Count,
    Fraction,
    Logger,
    Moment,
    NotNegative,
    Positive,
    Precision,
    Rate,
    Section,
    require,
)

Probability = Annotated[float, Field(ge=0, le=1), NO_TRUTH]
Degrees = Annotated[float, Field(ge=0, le=180), NO_TRUTH]
Half = Annotated[float, Field(ge=0, le=0.5), NO_TRUTH]
Bend = Annotated[float, Field(ge=0, le=0.05), NO_TRUTH]  # more could fold a slice over itself
Exponent = Annotated[float, Field(ge=0, le=1), NO_TRUTH]
Deviation = Annotated[float, Field(ge=0, le=0.2), NO_TRUTH]


class Augment(Section):
    """Variations of the slices that a training shows; 0 leaves that part out."""

    flip: Probability = 0.0
    rotate: Degrees = 0.0
    scale: Half = 0.0
    shift: Half = 0.0
    elastic: Bend = 0.0
    gamma: Exponent = 0.0
    noise: Deviation = 0.0


def _none_if_nothing(chosen: Augment | None) -> Augment | None:
    return None if chosen == Augment() else chosen


# left out where nothing is varied, so that results from before it was known stay valid
Augmentation = Annotated[
    Augment | None,
    AfterValidator(_none_if_nothing),
    Field(exclude_if=lambda chosen: chosen is None),
]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_TRUTH]


class Plateau(Section):
    """Scale the rate by `factor` when the validation loss stands still (orCaScore, section 4.3)."""

    factor: Fraction = 0.5
    patience: Positive = 5


Loss = Literal[
    "mixed", "focal", "cross_entropy", "dice_cross_entropy", "tversky_cross_entropy", "structure"
]
LaterRates = Annotated[tuple[tuple[Positive, Rate], ...], Field(min_length=1)]
Off = Field(exclude_if=lambda chosen: not chosen)
# of other keys: what they are for, by key and value of the one that decides, and their default
ONLY_WITH = {
    "positive_weight": ("loss", ("cross_entropy",), 1.0),
    "dice_weight": ("loss", ("dice_cross_entropy",), 0.5),
    "betas": ("optimizer", ("adam",), None),
    "momentum": ("optimizer", ("sgd",), 0.9),
    "weight_decay": ("optimizer", ("sgd",), None),
    "warmup_epochs": ("schedule", ("cosine", "polynomial"), None),
    "warmup_factor": ("schedule", ("cosine",), None),
    "later_rates": ("schedule", ("constant",), None),
}


class Adversarial(Section):
    """A PatchGAN term that joins a masked model's loss after its first epochs (section 4.3)."""

    weight: Rate = 0.01
    learning_rate: Rate = 2e-4
    start_epoch: Count = 10


class Training(Section):
    """Segmentation training (section 4.3), or another method's own.

    All keys that section 4.3 does not know are left out where they are off, so that results from
    before they were known stay valid. `recipe` fills in what is not given.
    """

    recipe: Literal["paper", "own"] = Field(default="paper", exclude=True)
    loss: Loss = "mixed"
    positive_weight: Annotated[Rate | None, UNSET] = None
    dice_weight: Annotated[Fraction | None, UNSET] = None
    auxiliary: Annotated[bool, Off] = False
    normalise: Annotated[Literal["dataset", "imagenet"] | None, UNSET] = None
    batch_size: Positive = 21
    epochs: Positive = 200
    optimizer: Annotated[Literal["adam", "sgd"], Field(exclude_if=lambda kind: kind == "adam")] = (
        "adam"
    )
    betas: Betas = (0.9, 0.999)
    momentum: Annotated[Moment | None, UNSET] = None
    weight_decay: Annotated[NotNegative | None, UNSET] = None
    clip: Annotated[Rate | None, UNSET] = None
    restart_moments: Annotated[bool, Off] = False
    learning_rate: Rate = 1e-4
    schedule: Annotated[
        Literal["cosine", "polynomial", "constant"], Field(exclude_if=lambda kind: kind == "cosine")
    ] = "cosine"
    later_rates: Annotated[LaterRates | None, UNSET] = None
    warmup_epochs: Count = 5
    warmup_factor: Annotated[float, Field(ge=1, allow_inf_nan=False), NO_TRUTH] = 10.0
    plateau: Plateau | None = None
    patience: Positive = 10
    lesion_free_fraction: Share = 1.0
    slice_per_case: Annotated[Share | None, UNSET] = None
    augment: Augmentation = None
    precision: Precision = "fp32"
    channels_last: Annotated[bool, Off] = False
    logger: Logger = "tensorboard"

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, given: Any) -> Any:
        """Write out the defaults of keys that exist only with a value of another one."""
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for key, (decides, values, default) in ONLY_WITH.items():
            if default is not None and filled.get(decides) in values and filled.get(key) is None:
                filled[key] = default
        return filled

    @model_serializer(mode="wrap")
    def _without_refused_keys(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that these others refuse, so that the output can be read again."""
        refused = {
            key for key, (by, values, _) in ONLY_WITH.items() if getattr(self, by) not in values
        }
        return {key: value for key, value in written(self).items() if key not in refused}

    @model_validator(mode="after")
    def _check_recipe(self) -> Self:
        for key, (decides, values, _) in ONLY_WITH.items():
            chosen = getattr(self, decides)
            idle = chosen not in values and key in self.model_fields_set
            given = idle and getattr(self, key) is not None
            require(not given, f"{key} is for {decides} {' or '.join(values)}, found {chosen}")
        rising = self.schedule != "polynomial" or self.warmup_epochs < self.epochs
        expected = f"expected less than epochs {self.epochs}, or no epoch had the rate itself"
        require(rising, f"warmup_epochs: found {self.warmup_epochs}, {expected}")
        epochs = [epoch for epoch, _ in self.later_rates or ()]
        expected = f"expected epochs that rise, and are below epochs {self.epochs}"
        rising = epochs == sorted(set(epochs)) and all(epoch < self.epochs for epoch in epochs)
        require(rising, f"later_rates: found the epochs {epochs}, {expected}")
        return self
