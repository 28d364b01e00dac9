"""The sections of a training: recipe, schedule, and how far it varies its slices (`augment`)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.settings.section import (
    NO_TRUTH,
    Count,
    Fraction,
    Positive,
    Precision,
    Rate,
    Section,
)

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "mae": {
        "optimizer": "adamw",
        "betas": (0.9, 0.95),
        "schedule": "cosine",
        "warmup": 0.05,
        "clip": 1.0,
    },
}
WEIGHT_DECAY = 0.05
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


class Training(Section):
    """Segmentation training (section 4.3)."""

    loss: Literal["mixed", "focal"] = "mixed"
    batch_size: Positive = 21
    epochs: Positive = 200
    learning_rate: Rate = 1e-4
    warmup_epochs: Count = 5
    warmup_factor: Annotated[float, Field(ge=1, allow_inf_nan=False), NO_TRUTH] = 10.0
    plateau: Plateau | None = None
    patience: Positive = 10
    lesion_free_fraction: Share = 1.0
    augment: Augmentation = None
    precision: Precision = "fp32"
    # left out where it is off, so that results from before it was known stay valid
    channels_last: Annotated[bool, Field(exclude_if=lambda chosen: not chosen)] = False
