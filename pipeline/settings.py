"""The one configuration model: every key, its type, its range and its default.

A configuration file names data sets; each data set holds the sections that its stages read. What a
stage's result depends on is exactly the dictionary that `stage_settings` returns for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import PipelineError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
Precision = Literal["fp32", "bf16", "fp16"]
QUANTILES = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.5, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Phantom(Section):
    """Synthetic cases in the data set's native layout, written before ingest."""

    kind: Literal["head", "chest", "heart"]
    cases: Positive
    seed: Count = 0
    shape: tuple[Positive, Positive, Positive] | None = None
    unlabelled: Count = 0


class Source(Section):
    """Where the cases are and how their files are read."""

    adapter: Literal["atlas", "msd", "orcascore", "nnunet", "manifest", "dicom"]
    root: str | None = None
    phantom: Phantom | None = None
    also_predict: tuple[str, ...] = ()
    modality: Literal["MR", "CT"] | None = None
    binarise: bool = False
    on_error: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either root (a folder of images) or phantom, not both")
        return self


class Slices(Section):
    """How a slice becomes the network's input: intensity in [0, 1], resized to `size` (y, x)."""

    size: Size = (224, 224)
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_scaling(self) -> Self:
        if (self.window is None) == (self.percentiles is None):
            raise ValueError("give either window (two HU values) or percentiles, not both")
        low, high = self.window or self.percentiles or (0.0, 1.0)
        if low >= high:
            raise ValueError(f"the lower value {low:g} is not below the upper value {high:g}")
        if self.percentiles:
            known = [100 * quantile for quantile in QUANTILES]
            for value in self.percentiles:
                if not any(abs(value - level) < 1e-9 for level in known):
                    levels = ", ".join(f"{level:g}" for level in known)
                    raise ValueError(f"percentile {value:g} is not stored; choose from {levels}")
        return self


class Split(Section):
    """Who trains, validates and tests: a number of units, or a fraction of them."""

    by: Literal["case", "group"] = "case"
    subsets: Positive = 1
    test: Number | Fraction = 0.2
    validation: Number | Fraction = 0.2


class Mae(Section):
    """One masked autoencoder and its training (section 4.3)."""

    preset: Literal["large", "base", "small", "tiny"] = "large"
    image_size: Annotated[int, Field(ge=32)] = 224
    patch_size: Annotated[int, Field(ge=2)] = 16
    train_mask_ratios: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.75)
    checkpoint: str | None = None
    epochs: Count = 200
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    decay_epochs: Positive = 50
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
            )
        if self.epochs == 0 and self.checkpoint is None:
            raise ValueError("epochs 0 needs a checkpoint to start from")
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
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_epochs: Count = 5
    warmup_factor: Annotated[float, Field(ge=1)] = 10.0
    plateau: Plateau | None = None
    patience: Positive = 10
    lesion_free_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    precision: Precision = "fp32"


class Experiment(Section):
    """One row of the comparison: a network, what it sees, how it is trained."""

    model: Literal["unet", "unetpp", "grcsf"]
    residuals: Name | None = None
    width: Positive = 64
    patch_sizes: tuple[Positive, Positive, Positive] = (8, 8, 16)
    training: Training = Training()

    @model_validator(mode="after")
    def _residuals_where_used(self) -> Self:
        if (self.model == "grcsf") != (self.residuals is not None):
            wants = "needs residuals" if self.model == "grcsf" else "takes no residuals"
            raise ValueError(f"model {self.model!r} {wants}")
        return self


class Postprocess(Section):
    """From probabilities to the written mask (section 4.2, design 7)."""

    probability: Fraction = 0.5
    method: Literal["none", "components", "calcium"] = "none"
    threshold_hu: float = 130.0
    min_volume_mm3: Annotated[float, Field(ge=0)] = 0.0
    grow: bool = False
    majority_over: Literal["labelled", "all"] = "labelled"


class Evaluation(Section):
    """What is scored and against whom (design 7)."""

    metrics: Literal["voxel", "calcium"] = "voxel"
    baseline: Name | None = None
    majority_over: Literal["labelled", "all"] = "labelled"
    agatston_slice_mm: Annotated[float, Field(gt=0)] = 3.0
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    confidence: Fraction = 0.95


class Dataset(Section):
    """Everything that one data set's results depend on."""

    source: Source
    slices: Slices
    split: Split = Split()
    mae: Annotated[dict[Name, Mae], Field(min_length=1)]
    residuals: dict[Name, Residuals]
    experiments: Annotated[dict[Name, Experiment], Field(min_length=1)]
    postprocess: Postprocess = Postprocess()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, residuals in self.residuals.items():
            for one in residuals.maps:
                _must_exist(f"residuals.{name}.maps", one.mae, "mae", self.mae)
                self.mae[one.mae].check_mask_ratio(
                    f"residuals.{name}.maps.mask_ratio", one.mask_ratio
                )
        for name, experiment in self.experiments.items():
            for scale, patch in zip((4, 2, 1), experiment.patch_sizes, strict=True):
                if experiment.model == "grcsf" and patch > min(self.slices.size) // scale:
                    raise ValueError(
                        f"experiments.{name}.patch_sizes: found {patch} at 1/{scale} scale, where "
                        f"slices of {self.slices.size} leave {min(self.slices.size) // scale}"
                    )
            if experiment.residuals:
                _must_exist(
                    f"experiments.{name}.residuals",
                    experiment.residuals,
                    "residuals",
                    self.residuals,
                )
        if self.evaluation.baseline:
            _must_exist(
                "evaluation.baseline", self.evaluation.baseline, "experiments", self.experiments
            )
        return self


class Resources(Section):
    """What a job may use. Nothing here changes a result."""

    threads: Positive = 2
    gpus: Count = 0
    workers: Count = 0
    cache_mb: Count = 2_000
    slices_per_batch: Positive = 8
    cases_per_job: Positive = 40
    memory_mb: Positive = 16_000
    minutes: Positive = 1_440


class Settings(Section):
    """A whole configuration file."""

    results: str = "results"
    seed: Count = 2026
    resources: Resources = Resources()
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]


def _must_exist(key: str, name: str, kind: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise ValueError(f"{key} names {name!r}, but {kind} has only: {', '.join(known)}")


def stage_settings(settings: Settings, stage: str, dataset: str, name: str = "") -> dict[str, Any]:
    """All of the configuration that one stage's result depends on, as plain JSON values.

    Args:
        settings: the validated configuration.
        stage: module name of the stage, such as `train_mae`.
        dataset: the data set's name.
        name: the MAE, residual set or experiment, for stages that have several.

    Returns:
        A dictionary; a change in it, and in nothing else of the file, re-runs the stage.
    """
    chosen = settings.datasets[dataset]
    seed = {"seed": settings.seed}
    slices = {"slices": _plain(chosen.slices)}
    match stage:
        case "phantom":
            return {"phantom": _plain(chosen.source.phantom), "adapter": chosen.source.adapter}
        case "ingest":
            return {"source": _plain(chosen.source)}
        case "split":
            return {"split": _plain(chosen.split), **seed}
        case "train_mae":
            return {"mae": _plain(chosen.mae[name]), **slices, **seed}
        case "residual_maps":
            maes = {one.mae: _plain(chosen.mae[one.mae]) for one in chosen.residuals[name].maps}
            shapes = {
                mae: {key: value[key] for key in ("preset", "image_size", "patch_size")}
                for mae, value in maes.items()
            }
            return {"residuals": _plain(chosen.residuals[name]), "mae": shapes, **slices, **seed}
        case "train_segmentation":
            maps = residual_count(chosen, name)
            return {
                "experiment": _plain(chosen.experiments[name]),
                "residual_maps": maps,
                **slices,
                **seed,
            }
        case "predict":
            experiment = _plain(chosen.experiments[name])
            experiment.pop("training")
            return {
                "experiment": experiment,
                "residual_maps": residual_count(chosen, name),
                **slices,
            }
        case "postprocess":
            return {"postprocess": _plain(chosen.postprocess)}
        case "evaluate" | "compare":
            return {"evaluation": _plain(chosen.evaluation), **seed}
        case "report":
            return {"dataset": _plain(chosen), **seed}
    raise ValueError(f"no stage is called {stage!r}")


def residual_count(dataset: Dataset, experiment: str) -> int:
    """How many residual maps an experiment's network sees."""
    residuals = dataset.experiments[experiment].residuals
    return len(dataset.residuals[residuals].maps) if residuals else 0


def _plain(section: Section | None) -> Any:
    return None if section is None else section.model_dump(mode="json")


def source_root(settings: Settings, dataset: str) -> Path:
    """The folder that the data set's adapter reads: given, or where its phantoms are written.

    Raises:
        PipelineError: `root` names an environment variable that is not set.
    """
    source = settings.datasets[dataset].source
    if source.root is None:
        return Path(settings.results) / dataset / "phantom"
    return _expanded(source.root, f"datasets.{dataset}.source.root")


def further_images(settings: Settings, dataset: str) -> list[Path]:
    """Images of `source.also_predict`: predicted with the trained networks, and not scored."""
    key = f"datasets.{dataset}.source.also_predict"
    return [_expanded(image, key) for image in settings.datasets[dataset].source.also_predict]


def _expanded(given: str, key: str) -> Path:
    path = os.path.expandvars(given)
    if "$" in path:
        raise PipelineError(
            f"{key}: found {given!r}, whose environment variable is not set; set it or write the "
            "path out"
        )
    return Path(path).expanduser()
