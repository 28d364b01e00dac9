"""The sections about data: source, slices, split, written masks, their scores and figures."""

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
    MOST_SUBSETS,
    Count,
    Fraction,
    Name,
    NotNegative,
    Number,
    Positive,
    Rate,
    Section,
    Size,
    require,
)

HEALTHY = "healthy"  # the role of scans without lesion, which only masked models learn from
EXTERNAL = "external/"  # and the name of a further data set, the role of its cases: only tested
INTERNAL = "internal"  # what the data set's own test cases are called beside those
# levels of the intensity quantiles that a case store keeps; percentiles choose among them
QUANTILES = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.5, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
# later keys, which are left out where they keep their default: records and fingerprints of results
# made before them stay true
Plane = Annotated[
    Literal["axial", "as_stored"], Field(exclude_if=lambda plane: plane == "as_stored")
]
Tilted = Annotated[
    Literal["refuse", "resample"], Field(exclude_if=lambda tilted: tilted == "refuse")
]
Healthy = Annotated[tuple[str, ...], Field(exclude_if=lambda given: not given)]
Folds = Annotated[
    Annotated[int, Field(ge=2, le=MOST_SUBSETS, strict=True)] | None,
    Field(exclude_if=lambda folds: folds is None),
]
# `auto`, of an applied model: what the root is recognised as
Adapter = Literal["atlas", "msd", "orcascore", "nnunet", "manifest", "dicom", "images", "auto"]
LabelValue = Annotated[int, Field(ge=1, le=255, strict=True)]


MOST_CASES = 6  # of a figure, which has one page


class Phantom(Section):
    """Synthetic cases in the adapter's native layout, written before ingest."""

    kind: Literal["head", "chest", "heart"]
    cases: Positive
    seed: Count = 0
    shape: tuple[Positive, Positive, Positive] | None = None
    unlabelled: Count = 0


class Source(Section):
    """Where the cases lie and how their files are read."""

    adapter: Adapter
    root: str | None = None
    phantom: Phantom | None = None
    also_predict: tuple[str, ...] = ()
    healthy: Healthy = ()
    modality: Literal["MR", "CT"] | None = None
    channel: Count | None = None
    # left out where it is not set, so that results from before it was known stay valid
    series: Annotated[str | None, Field(min_length=1, exclude_if=lambda name: name is None)] = None
    binarise: bool = False
    foreground: Annotated[tuple[LabelValue, ...], Field(min_length=1)] | None = None
    tilted: Tilted = "refuse"
    on_error: Literal["stop", "skip"] = "stop"
    # false, of an applied model: every case counts as one without reference
    labels: Annotated[bool, Field(exclude_if=lambda labels: labels)] = True

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either root (a folder of images) or phantom")
        if self.binarise and self.foreground is not None:
            raise ValueError("give either binarise (all values are lesion) or foreground, not both")
        found = "adapter: found auto, which is for a model that is applied"
        named = self.adapter != "auto" or not self.labels
        require(named, f"{found}; name the layout: grcsf init FOLDER recognises it")
        return self


def external_set(role: str) -> str:
    """The external data set that a case of this role is of; "" of every other case."""
    return role.removeprefix(EXTERNAL) if role.startswith(EXTERNAL) else ""


def _check_external(sets: dict[str, Source]) -> dict[str, Source]:
    """Refuse sources that cannot be those of external data sets."""
    found = f"found the name {INTERNAL!r}, which means the data set's own test cases; rename it"
    require(INTERNAL not in sets, found)
    expected = "expected only what tells how its cases are read (adapter, root and the like)"
    for name, source in sets.items():
        useless = {
            "phantom",
            "also_predict",
            "healthy",
            "on_error",
            "labels",
        } & source.model_fields_set
        fault = f"{name}.{min(useless, default='')}: not for an external data set, {expected}"
        require(not useless, fault)
        first = next(other for other in sets if sets[other] == source)
        found = f"{name}: found the source of {first} again"
        require(first == name, f"{found}, expected each patient in one set; leave one of them out")
    return sets


External = Annotated[
    dict[Name, Source],
    Field(default_factory=dict, exclude_if=lambda sets: not sets),
    AfterValidator(_check_external),
]


class Slices(Section):
    """How a slice becomes network input: intensities scaled to [0, 1], resized to `size` (y, x).

    `plane` says which planes are slices; ingest brings the image to them.
    """

    plane: Plane = "as_stored"
    size: Size = (224, 224)
    window: tuple[Number, Number] | None = None
    percentiles: tuple[Number, Number] | None = None

    @model_validator(mode="after")
    def _check_scaling(self) -> Self:
        if (self.window is None) == (self.percentiles is None):
            raise ValueError("give either window (two HU values) or percentiles")
        low, high = self.window or self.percentiles or (0.0, 1.0)
        require(low < high, f"the lower value {low:g} is not below the upper value {high:g}")
        known = [100 * quantile for quantile in QUANTILES]
        levels = ", ".join(f"{level:g}" for level in known)
        for value in self.percentiles or ():
            stored = any(abs(value - level) < 1e-9 for level in known)
            require(stored, f"percentile {value:g} is not stored; choose from {levels}")
        return self

    def of_networks(self) -> dict[str, Any]:
        """What networks depend on, as JSON; `plane` is not among it, which changes their images."""
        return self.model_dump(mode="json", exclude={"plane"})


class Split(Section):
    """Who trains, validates and tests: `test` and `validation` are counts or fractions of cases.

    With `folds`, every labelled case is tested once, and each fold counts as a subset.
    """

    by: Literal["case", "group"] = "case"
    subsets: Annotated[int, Field(ge=1, le=MOST_SUBSETS, strict=True)] = 1
    folds: Folds = None
    test: Positive | Fraction = 0.2
    validation: Positive | Fraction = 0.2

    @model_serializer(mode="wrap")
    def _without_refused_key(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the key that folds refuse, so that the output can be read again."""
        refused = {"test"} if self.folds else set()
        return {key: value for key, value in written(self).items() if key not in refused}

    @model_validator(mode="after")
    def _check_folds(self) -> Self:
        if self.folds is None:
            return self
        found = f"folds: found {self.folds} with subsets {self.subsets}"
        require(self.subsets == 1, f"{found}, expected one of the two; leave subsets out")
        fault = f"test: found {self.test:g} with folds {self.folds}, which test every case once"
        require("test" not in self.model_fields_set, f"{fault}; leave test out")
        return self

    @property
    def parts(self) -> int:
        """How many subsets or folds there are."""
        return self.folds or self.subsets


class Postprocess(Section):
    """How probabilities become the written mask (section 4.2, design 7)."""

    probability: Fraction = 0.5
    method: Literal["none", "components", "calcium"] = "none"
    threshold_hu: Number = 130.0
    min_volume_mm3: NotNegative = 0.0
    grow: bool = False
    majority_over: Literal["labelled", "all"] = "labelled"

    @model_validator(mode="after")
    def _check_no_key_is_ignored(self) -> Self:
        if self.min_volume_mm3 and self.method == "none":
            raise ValueError("min_volume_mm3 is for method components or calcium")
        if self.grow and self.method != "calcium":
            raise ValueError("grow is for method calcium")
        if self.majority_over == "all" and not self.grow:
            raise ValueError("majority_over is for grow: true; evaluation has its own")
        return self


class Evaluation(Section):
    """What is scored, and against which baseline (design 7)."""

    metrics: Literal["voxel", "calcium"] = "voxel"
    baseline: Name | None = None
    majority_over: Literal["labelled", "all"] = "labelled"
    agatston_slice_mm: Rate = 3.0
    bootstrap_samples: Annotated[int, Field(ge=100, strict=True)] = 2000
    confidence: Fraction = 0.95


class FigureCase(Section):
    """A case that figures show, and its slice, from 1; without one, that with most lesion."""

    case: Annotated[str, Field(min_length=1)]
    slice: Positive | None = None


class Figures(Section):
    """Which cases figures show; none stands for those that a rule chooses by their Dice."""

    cases: Annotated[tuple[FigureCase, ...], Field(max_length=MOST_CASES)] = ()
