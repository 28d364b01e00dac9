"""The base of all sections, which is strict, the types of their values, and names of repeats."""

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "a truth value is no number")
    return value


def require(holds: object, message: str) -> None:
    """Refuse the settings with this message, unless the condition holds."""
    if not holds:
        raise ValueError(message)


# no path and no name has any: NUL, and what would break a line
CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
# floats are not strict, because YAML reads 1e-4 as text
NO_TRUTH = BeforeValidator(_no_truth)
Number = Annotated[float, Field(allow_inf_nan=False), NO_TRUTH]
Fraction = Annotated[float, Field(gt=0, lt=1), NO_TRUTH]
Positive = Annotated[int, Field(ge=1, strict=True)]  # strict: `true` does not count as 1
Count = Annotated[int, Field(ge=0, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$", max_length=200)]
# Far above any use, and low enough that settings of a foreign bundle neither fill the memory nor
# take days: networks of this size are built, and passes run, before anybody sees a number.
LARGEST_SIDE, LARGEST_WIDTH, MOST_PASSES, MOST_MAPS, MOST_SUBSETS = 4096, 1024, 256, 64, 1000
MOST_PATCHES = 128**2  # of a slice; attention takes memory with their square
# in pixels; a smaller slice leaves batch normalisation a single value at the lowest level
SMALLEST_SIDE = 32
Side = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE, strict=True)]
Size = tuple[Side, Side]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), NO_TRUTH]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), NO_TRUTH]
Precision = Literal["fp32", "bf16", "fp16"]
MOST_REPEATS = 20  # of a training with other seeds
# keys of a masked training that are left out where they keep their default: records and
# fingerprints of models made before they were known stay true
Optimizer = Annotated[Literal["adam", "adamw"], Field(exclude_if=lambda kind: kind == "adam")]
Moment = Annotated[float, Field(ge=0, lt=1), NO_TRUTH]
Betas = Annotated[tuple[Moment, Moment], Field(exclude_if=lambda betas: betas == (0.9, 0.999))]
Schedule = Annotated[Literal["step", "cosine"], Field(exclude_if=lambda kind: kind == "step")]
Warmup = Annotated[float, Field(ge=0, lt=1, exclude_if=lambda share: share == 0), NO_TRUTH]
UNSET = Field(exclude_if=lambda value: value is None)
# keys of experiments, left out likewise
Start = Annotated[Literal[0, 1], Field(exclude_if=lambda start: start == 1)]
Context = Annotated[
    int | None, Field(ge=0, le=8, strict=True, exclude_if=lambda context: not context)
]
ResidualInput = Annotated[bool, Field(exclude_if=lambda given: not given)]
Repeats = Annotated[int, Field(ge=1, le=MOST_REPEATS, strict=True, exclude_if=lambda n: n == 1)]
Subsets = Annotated[tuple[Positive, ...], Field(min_length=1)] | None
# where a training draws its curves; no result depends on it
Logger = Annotated[Literal["tensorboard", "mlflow", "wandb"], Field(exclude=True)]
LabelledCases = Annotated[Annotated[int, Field(ge=2, strict=True)] | None, UNSET]
Level = Annotated[int, Field(ge=0, le=3, strict=True)]  # 0 is full scale, 3 is 1/8


def _each_once(levels: tuple[int, ...]) -> tuple[int, ...]:
    each_once = levels and len(set(levels)) == len(levels)
    require(each_once, f"found {levels}, expected at least one, each once")
    return levels


Levels = Annotated[tuple[Level, ...], AfterValidator(_each_once)]


def _or_sam(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError as error:
        expected = error.errors()[0]["ctx"]["expected"].replace(" or ", ", ")
        named = {"expected": f"{expected} or 'sam'"}
        raise PydanticCustomError("literal_error", "expected {expected}", named) from None


# names SAM, too, where a model is unknown: it has a section of its own
OrSam = WrapValidator(_or_sam)


class Section(BaseModel):
    """A part of the configuration, which refuses unknown keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def configured(name: str) -> str:
    """The name in the configuration behind that of a result: `unet/repeat-2` → `unet`."""
    return name.partition("/")[0]


def repeat_name(name: str, repeat: int) -> str:
    """The name of a repeat's results; the first one's is the experiment's own."""
    return name if repeat == 1 else f"{name}/repeat-{repeat}"


def repeat_of(name: str) -> int:
    """The number of a repeat, from 1, by the name of its results."""
    return int(name.partition("/repeat-")[2] or 1)


def repeat_seed(seed: int, name: str) -> int:
    """The seed of a repeat's weights, order and varied slices; the first one has `seed` itself."""
    repeat = repeat_of(name)
    if repeat == 1:
        return seed
    # 32 bits, as numpy's generators take no more
    return int.from_bytes(hashlib.sha256(f"{seed} repeat {repeat}".encode()).digest()[:4], "big")
