"""The whole configuration, and the checks across its sections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from grcsf.models.peer_sizes import PEERS, size_fault
from pipeline.errors import PipelineError
from pipeline.settings.apply.section import Apply
from pipeline.settings.data import (
    Evaluation,
    External,
    Figures,
    Postprocess,
    Slices,
    Source,
    Split,
    external_set,
)
from pipeline.settings.method import Experiment, Mae
from pipeline.settings.residual_sets import GradCam, Residuals, ResidualSet
from pipeline.settings.resources import Resources, Store
from pipeline.settings.section import (
    CONTROL,
    Count,
    Name,
    Section,
    configured,
    repeat_name,
    require,
)
from pipeline.settings.tables import COSTS, TABLE_1, TABLE_2, Table
from pipeline.settings.untrained import (
    AnyExperiment,
    EnsembleExperiment,
    SamExperiment,
    Untrained,
)

if TYPE_CHECKING:
    from pipeline.settings.apply.bundle import Bundle


class Dataset(Section):
    """Everything that one data set's results depend on."""

    source: Source
    # further data sets that are only tested; left out where there is none, as `figures`
    external: External
    slices: Slices
    split: Split = Split()
    mae: dict[Name, Mae] = Field(default_factory=dict)
    residuals: dict[Name, ResidualSet] = Field(default_factory=dict)
    experiments: Annotated[dict[Name, AnyExperiment], Field(min_length=1)]
    postprocess: Postprocess = Postprocess()
    evaluation: Evaluation = Evaluation()
    tables: Annotated[dict[Name, Table], Field(default_factory=dict)]
    # left out where it is not set, so that pages from before it was known stay valid
    figures: Annotated[Figures, Field(exclude_if=lambda chosen: not chosen.cases)] = Figures()
    _bundle: Bundle | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name, residuals in self.residuals.items():
            self._check_residuals(name, residuals)
        for name, experiment in self.experiments.items():
            self._check_experiment(f"experiments.{name}", experiment)
        shared = self.shared_subsets
        require(shared, "experiments: found no subset that all of them have in common")
        for name, table in self.tables.items():
            self._check_table(f"tables.{name}", table)
        if baseline := self.evaluation.baseline:
            _must_exist("evaluation.baseline", baseline, "experiments", self.experiments)
        return self

    @property
    def bundle(self) -> Bundle | None:
        """The bundle whose model is applied to this data set, of which nothing is trained here."""
        return self._bundle

    def source_of(self, role: str) -> Source:
        """How a case of this role is read; an external data set without `modality` has ours."""
        own = self.external.get(external_set(role), self.source)
        return own.model_copy(update={"modality": own.modality or self.source.modality})

    def subsets_of(self, *experiments: str) -> tuple[int, ...]:
        """The subsets of the split on which all of these experiments are trained and tested."""
        whole = set(self.all_subsets)
        chosen = (self.experiments[name].subsets for name in experiments)
        return tuple(sorted(whole.intersection(*(subsets for subsets in chosen if subsets))))

    def subsets_with(self, residuals: str) -> tuple[int, ...]:
        """The subsets in which an experiment sees this residual set; all of them if none does."""
        users = [name for name, row in self.experiments.items() if row.residuals == residuals]
        needed = {subset for name in users for subset in self.subsets_of(name)}
        return tuple(sorted(needed)) or self.all_subsets

    def trainings_of(self, experiment: str) -> list[str]:
        """The names of an experiment's trainings: its own, and that of each further repeat."""
        repeats = range(1, self.experiments[experiment].repeats + 1)
        return [repeat_name(experiment, repeat) for repeat in repeats]

    def averaged_by(self, experiment: str) -> list[str]:
        """The names of the trainings whose probabilities an ensemble averages; of others none."""
        chosen = self.experiments[experiment]
        names = chosen.ensemble if isinstance(chosen, EnsembleExperiment) else ()
        return [training for name in names for training in self.trainings_of(name)]

    def members_of(self, experiment: str, subset: int) -> list[tuple[str, int]]:
        """The networks that an ensemble averages in a subset, each with its own; of others none."""
        names = self.averaged_by(experiment)
        if names and self._bundle:
            return list(self._bundle.members)
        return [(name, subset) for name in names]

    def trained(self, name: str, purpose: str) -> Experiment:
        """An experiment, or that behind the name of a repeat, whose network is trained here.

        Raises:
            PipelineError: nothing is trained for it; `purpose` says what a network is needed for.
        """
        experiment = self.experiments[configured(name)]
        if isinstance(experiment, Untrained):
            found = f"experiments.{configured(name)}: found {experiment.what}"
            raise PipelineError(f"{found}, expected a network that is trained here, {purpose}")
        return experiment

    @property
    def networks(self) -> dict[str, Experiment]:
        """The experiments whose networks are trained here, by name."""
        return {
            name: experiment
            for name, experiment in self.experiments.items()
            if isinstance(experiment, Experiment)
        }

    @property
    def all_subsets(self) -> tuple[int, ...]:
        """Numbers of the split's subsets or folds, from 1."""
        return tuple(range(1, self.split.parts + 1))

    @property
    def shared_subsets(self) -> tuple[int, ...]:
        """The subsets that all experiments have in common; the comparison uses these."""
        return self.subsets_of(*self.experiments)

    def _check_residuals(self, name: str, residuals: Residuals | GradCam) -> None:
        key = f"residuals.{name}"
        if isinstance(residuals, GradCam):
            self._check_grad_cam(f"{key}.grad_cam", residuals.grad_cam, self.subsets_with(name))
            return
        for part in residuals.maps:
            _must_exist(f"{key}.maps", part.mae, "mae", self.mae)
            self.mae[part.mae].check_mask_ratio(f"{key}.maps.mask_ratio", part.mask_ratio)

    def _check_grad_cam(self, key: str, network: str, subsets: tuple[int, ...]) -> None:
        _must_exist(key, network, "experiments", self.experiments)
        chosen, key = self.experiments[network], f"{key}: {network!r}"
        if isinstance(chosen, Untrained):
            raise ValueError(f"{key} is {chosen.what}, expected a network that is trained here")
        expected = "expected an experiment that takes none"
        require(chosen.residuals is None, f"{key} itself needs residual maps, {expected}")
        expected = "expected an experiment with a convolutional one"
        require(not chosen.mae_encoder, f"{key} has the encoder of an MAE, {expected}")
        expected = "expected model unet, unetpp or grcsf, whose deepest features it can look at"
        require(chosen.model not in PEERS, f"{key} has model {chosen.model!r}, {expected}")
        expected = "expected an experiment that sees single slices"
        require(not chosen.neighbours, f"{key} has context {chosen.context}, {expected}")
        for subset in subsets:
            message = f"{key} is not trained on subset {subset}, which needs these maps"
            require(subset in self.subsets_of(network), message)

    def _check_experiment(self, key: str, experiment: AnyExperiment) -> None:
        known = self.split.parts
        for subset in experiment.subsets or ():
            require(subset <= known, f"{key}.subsets: found {subset}, but split has {known}")
        if isinstance(experiment, SamExperiment):
            self._check_prompts(key, experiment)
        elif isinstance(experiment, EnsembleExperiment):
            self._check_ensemble(key, experiment)
        elif isinstance(experiment, Experiment):
            self._check_network(key, experiment)

    def _check_prompts(self, key: str, experiment: SamExperiment) -> None:
        name = experiment.prompts
        _must_exist(f"{key}.prompts", name, "experiments", self.experiments)
        found = f"{key}.prompts: found {name!r}, which is SAM itself"
        is_sam = isinstance(self.experiments[name], SamExperiment)
        require(not is_sam, f"{found}, expected a trained network or given predictions")
        for subset in self.subsets_of(key.rpartition(".")[2]):
            found = f"{key}.prompts: {name!r} has no subset {subset}, whose masks SAM needs"
            require(subset in self.subsets_of(name), f"{found}; give both the same subsets")

    def _check_ensemble(self, key: str, experiment: EnsembleExperiment) -> None:
        names, own = experiment.ensemble, key.rpartition(".")[2]
        for name in names:
            _must_exist(f"{key}.ensemble", name, "experiments", self.experiments)
            found = f"{key}.ensemble: found {name!r}"
            chosen = self.experiments[name]
            fits = not isinstance(chosen, SamExperiment | EnsembleExperiment)
            expected = "expected a trained network or given predictions"
            require(fits, f"{found}, which is {getattr(chosen, 'what', '')}, {expected}")
            for subset in self.subsets_of(own):
                lacks = f"{key}.ensemble: {name!r} has no subset {subset}, which is averaged"
                require(subset in self.subsets_of(name), f"{lacks}; give both the same subsets")
        alone = f"{key}.ensemble: found a single network, {names[0]!r}, expected several"
        remedy = "give it repeats, or name more experiments"
        require(len(self.averaged_by(own)) > 1, f"{alone}; {remedy}")

    def _check_network(self, key: str, experiment: Experiment) -> None:
        if experiment.mae_encoder:
            self._check_encoder(f"{key}.mae_encoder.mae", experiment.mae_encoder.mae)
        if experiment.residuals is not None:
            _must_exist(f"{key}.residuals", experiment.residuals, "residuals", self.residuals)
        if experiment.model in PEERS:
            fault = size_fault(experiment.model, self.slices.size)
            require(not fault, f"{key}.model needs other slices: slices.size: {fault}")
        if experiment.model != "grcsf" or experiment.rcu is None:
            return  # other models have the default of a unit that they do not build
        for level, patch in zip(experiment.rcu.levels, experiment.rcu.patch_sizes, strict=True):
            largest = min(self.slices.size) // 2**level
            found = f"{key}.rcu.patch_sizes: found {patch} at 1/{2**level} scale, where slices of"
            require(patch <= largest, f"{found} {self.slices.size} leave {largest}")

    def _check_encoder(self, key: str, name: str) -> None:
        _must_exist(key, name, "mae", self.mae)
        mae = self.mae[name]
        expected = "expected an MAE (architecture: mae)"
        require(mae.architecture == "mae", f"{key}: found a SimMIM, {expected}")
        expected = "expected a power of two, whose scale a decoder reaches by doubling"
        power_of_two = mae.patch_size & (mae.patch_size - 1) == 0
        require(power_of_two, f"{key}: found patch_size {mae.patch_size}, {expected}")

    def _check_table(self, key: str, table: Table) -> None:
        scores = TABLE_2 if self.evaluation.metrics == "calcium" else TABLE_1
        known = [*(column.key for column in scores), *COSTS]
        unscored = f"which metrics: {self.evaluation.metrics} does not score"
        for column in table.columns:
            found = f"{key}.columns: found {column!r}, {unscored}"
            require(column in known, f"{found}; expected any of {', '.join(known)}")
        names = [row.experiment for row in table.rows]
        for name in names:
            _must_exist(f"{key}.rows", name, "experiments", self.experiments)
        shared = self.subsets_of(*names)
        require(shared, f"{key}.rows: found experiments that have no subset in common")


class Settings(Section):
    """A whole configuration file."""

    results: str = "results"
    store: Store = Store()
    seed: Count = 2026
    resources: Resources = Resources()
    apply: Apply | None = None
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]

    @field_validator("results")
    @classmethod
    def _plain_path(cls, results: str) -> str:
        # Snakemake reads braces as wildcards, and <name> as a pathvar
        plain = not results.startswith("~") and not set(results) & set("${}<>")
        expected = "expected a path without ~, $, <> and braces, which are not filled in here"
        require(plain, f"found {results!r}, {expected}")
        # a command would take it for an option
        sound = not str(Path(results)).startswith("-") and not CONTROL.search(results)
        expected = "expected one that begins with no - and holds no control characters"
        require(sound, f"found {results!r}, {expected}")
        return results

    @model_validator(mode="after")
    def _check_batches_divide_evenly(self) -> Self:
        for dataset, chosen in self.datasets.items():
            for name, mae in chosen.mae.items():
                self._check_batch(f"datasets.{dataset}.mae.{name}", mae, mae.batch_size)
            for name, experiment in chosen.networks.items():
                key, size = f"experiments.{name}.training", experiment.training.batch_size
                self._check_batch(f"datasets.{dataset}.{key}", experiment, size)
        return self

    def _check_batch(self, key: str, training: Mae | Experiment, size: int) -> None:
        resources = training.resources.over(self.resources)
        onto_card = resources.cache == "device" and resources.workers > 0
        found = f"{key}: found resources.cache: device with workers: {resources.workers}"
        expected = "expected workers: 0, since only the training's own process puts slices there"
        require(not onto_card, f"{found}, {expected}")
        processes = resources.processes
        expected = f"a multiple of the {processes} processes (nodes × gpus) that train together"
        require(size % processes == 0, f"{key}.batch_size: found {size}, expected {expected}")
        model = training.model if isinstance(training, Experiment) else ""
        least = processes * PEERS[model].least_batch if model in PEERS else 0
        expected = f"at least {least}: a step of {model} needs two slices in each process"
        require(size >= least, f"{key}.batch_size: found {size}, expected {expected}")


def _must_exist(key: str, name: str, kind: str, known: dict[str, Any]) -> None:
    require(name in known, f"{key} names {name!r}, but {kind} has only: {', '.join(known)}")
