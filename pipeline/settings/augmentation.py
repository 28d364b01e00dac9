"""The section `augment`: how far a training varies its slices."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.settings.section import NO_TRUTH, Section

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
