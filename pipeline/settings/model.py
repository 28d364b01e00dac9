"""The whole configuration, and the checks across its sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.settings.data import Evaluation, Postprocess, Slices, Source, Split
from pipeline.settings.method import Experiment, Mae
from pipeline.settings.residual_sets import GradCam, Residuals, ResidualSet
from pipeline.settings.resources import Resources
from pipeline.settings.score_columns import TABLE_1, TABLE_2
from pipeline.settings.section import Count, Name, Section
from pipeline.settings.tables import COSTS, Table


class Dataset(Section):
    """Everything that one data set's results depend on."""

    source: Source
    slices: Slices
    split: Split = Split()
    mae: dict[Name, Mae] = Field(default_factory=dict)
    residuals: dict[Name, ResidualSet] = Field(default_factory=dict)
    experiments: Annotated[dict[Name, Experiment], Field(min_length=1)]
    postprocess: Postprocess = Postprocess()
    evaluation: Evaluation = Evaluation()
    tables: Annotated[dict[Name, Table], Field(default_factory=dict)]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name, residuals in self.residuals.items():
            self._check_residuals(name, residuals)
        for name, experiment in self.experiments.items():
            self._check_experiment(f"experiments.{name}", experiment)
        if not self.shared_subsets:
            raise ValueError("experiments: found no subset that all of them have in common")
        for name, table in self.tables.items():
            self._check_table(f"tables.{name}", table)
        baseline = self.evaluation.baseline
        if baseline:
            _must_exist("evaluation.baseline", baseline, "experiments", self.experiments)
        return self

    def subsets_of(self, *experiments: str) -> tuple[int, ...]:
        """The subsets of the split on which all of these experiments are trained and tested."""
        whole = set(self.all_subsets)
        chosen = (self.experiments[name].subsets for name in experiments)
        return tuple(sorted(whole.intersection(*(subsets for subsets in chosen if subsets))))

    def subsets_with(self, residuals: str) -> tuple[int, ...]:
        """The subsets in which an experiment sees this residual set; all of them if none does."""
        users = [
            name
            for name, experiment in self.experiments.items()
            if experiment.residuals == residuals
        ]
        needed = {subset for name in users for subset in self.subsets_of(name)}
        return tuple(sorted(needed)) or self.all_subsets

    @property
    def all_subsets(self) -> tuple[int, ...]:
        """Numbers of the split's subsets, from 1."""
        return tuple(range(1, self.split.subsets + 1))

    @property
    def shared_subsets(self) -> tuple[int, ...]:
        """The subsets that all experiments have in common; the comparison uses these."""
        return self.subsets_of(*self.experiments)

    def _check_residuals(self, name: str, residuals: Residuals | GradCam) -> None:
        key = f"residuals.{name}"
        if isinstance(residuals, GradCam):
            self._check_grad_cam(key, residuals.grad_cam, self.subsets_with(name))
            return
        for part in residuals.maps:
            _must_exist(f"{key}.maps", part.mae, "mae", self.mae)
            self.mae[part.mae].check_mask_ratio(f"{key}.maps.mask_ratio", part.mask_ratio)

    def _check_grad_cam(self, key: str, network: str, subsets: tuple[int, ...]) -> None:
        _must_exist(f"{key}.grad_cam", network, "experiments", self.experiments)
        if self.experiments[network].residuals is not None:
            raise ValueError(
                f"{key}.grad_cam: {network!r} itself needs residual maps, expected an experiment "
                "that takes none"
            )
        if self.experiments[network].mae_encoder:
            raise ValueError(
                f"{key}.grad_cam: {network!r} has the encoder of an MAE, expected an experiment "
                "with a convolutional one"
            )
        missing = sorted(set(subsets) - set(self.subsets_of(network)))
        if missing:
            raise ValueError(
                f"{key}.grad_cam: {network!r} is not trained on subset {missing[0]}, which needs "
                "these maps"
            )

    def _check_experiment(self, key: str, experiment: Experiment) -> None:
        for subset in experiment.subsets or ():
            if subset > self.split.subsets:
                raise ValueError(
                    f"{key}.subsets: found {subset}, but split has {self.split.subsets}"
                )
        if experiment.mae_encoder:
            self._check_encoder(f"{key}.mae_encoder.mae", experiment.mae_encoder.mae)
        if experiment.residuals is None or experiment.rcu is None:
            return
        _must_exist(f"{key}.residuals", experiment.residuals, "residuals", self.residuals)
        for level, patch in zip(experiment.rcu.levels, experiment.rcu.patch_sizes, strict=True):
            largest = min(self.slices.size) // 2**level
            if patch > largest:
                raise ValueError(
                    f"{key}.rcu.patch_sizes: found {patch} at 1/{2**level} scale, where "
                    f"slices of {self.slices.size} leave {largest}"
                )

    def _check_encoder(self, key: str, name: str) -> None:
        _must_exist(key, name, "mae", self.mae)
        mae = self.mae[name]
        if mae.architecture != "mae":
            raise ValueError(f"{key}: found a SimMIM, expected an MAE (architecture: mae)")
        if mae.patch_size & (mae.patch_size - 1):
            raise ValueError(
                f"{key}: found patch_size {mae.patch_size}, expected a power of two, whose scale "
                "a decoder reaches by doubling"
            )

    def _check_table(self, key: str, table: Table) -> None:
        scores = TABLE_2 if self.evaluation.metrics == "calcium" else TABLE_1
        known = [*(column.key for column in scores), *COSTS]
        for column in table.columns:
            if column not in known:
                raise ValueError(
                    f"{key}.columns: found {column!r}, which metrics: {self.evaluation.metrics} "
                    f"does not score; expected any of {', '.join(known)}"
                )
        names = [row.experiment for row in table.rows]
        for name in names:
            _must_exist(f"{key}.rows", name, "experiments", self.experiments)
        if not self.subsets_of(*names):
            raise ValueError(f"{key}.rows: found experiments that have no subset in common")


class Store(Section):
    """Where residual stores lie, and how stores are read; nothing in it changes a result."""

    root: str | None = None
    codecs: Literal["zarr", "zarrs"] = "zarr"


class Settings(Section):
    """A whole configuration file."""

    results: str = "results"
    store: Store = Store()
    seed: Count = 2026
    resources: Resources = Resources()
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]

    @field_validator("results")
    @classmethod
    def _plain_path(cls, results: str) -> str:
        # Snakemake reads braces as wildcards
        if results.startswith("~") or set(results) & set("${}"):
            raise ValueError(
                f"found {results!r}, expected a path without ~, $ and braces, which are not filled "
                "in here"
            )
        return results

    @model_validator(mode="after")
    def _check_batches_divide_evenly(self) -> Self:
        for dataset, chosen in self.datasets.items():
            sizes: dict[str, tuple[Mae | Experiment, int]] = {
                f"mae.{name}": (mae, mae.batch_size) for name, mae in chosen.mae.items()
            }
            for name, experiment in chosen.experiments.items():
                batch_size = experiment.training.batch_size
                sizes[f"experiments.{name}.training"] = (experiment, batch_size)
            for key, (training, size) in sizes.items():
                processes = training.resources.over(self.resources).processes
                if size % processes:
                    raise ValueError(
                        f"datasets.{dataset}.{key}.batch_size: found {size}, expected a multiple "
                        f"of the {processes} processes (nodes × gpus) that train together"
                    )
        return self


def _must_exist(key: str, name: str, kind: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise ValueError(f"{key} names {name!r}, but {kind} has only: {', '.join(known)}")


def used_residuals(chosen: Dataset, experiments: Iterable[str]) -> list[str]:
    """The residual sets that these experiments see."""
    names = {chosen.experiments[name].residuals for name in experiments}
    return sorted(name for name in names if name)


def used_maes(chosen: Dataset, experiments: Sequence[str]) -> list[str]:
    """The MAEs that these experiments need, for residual maps or as encoders."""
    sets = [chosen.residuals[name] for name in used_residuals(chosen, experiments)]
    maps = {part.mae for residuals in sets for part in getattr(residuals, "maps", ())}
    encoders = (chosen.experiments[name].mae_encoder for name in experiments)
    return sorted(maps | {encoder.mae for encoder in encoders if encoder})


def table_experiments(table: Table) -> list[str]:
    """The experiments in a table's rows, each once."""
    return list(dict.fromkeys(row.experiment for row in table.rows))
