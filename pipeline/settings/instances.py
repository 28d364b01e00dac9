"""Which MAE and which residual set serve a subset, where every fold has its own.

With `split.folds` every labelled case is tested, so no network that has learned from a case may
make that case's maps. An MAE that learns from training cases, the residual sets with its maps, and
Grad-CAM therefore exist once for each fold, as instances `NAME/fold-2`; all else is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.settings.configuration import Dataset
from pipeline.settings.method import Mae
from pipeline.settings.residual_sets import GradCam
from pipeline.settings.section import configured

FOLD = "/fold-"


class Instances(NamedTuple):
    """What a network of one subset sees and starts from, by instance name."""

    residuals: str | None
    mae: str | None  # of its encoder


def fold_of(name: str) -> int | None:
    """The fold that an instance is of: `mrm/fold-2` → 2; None where it serves all subsets."""
    _, found, number = name.partition(FOLD)
    return int(number) if found else None


def shown(name: str) -> str:
    """An instance as a person reads it: `mrm/fold-2` → `mrm, fold 2`."""
    fold = fold_of(name)
    return name if fold is None else f"{configured(name)}, fold {fold}"


def mae_instance(dataset: Dataset, mae: str, subset: int) -> str:
    """The instance of an MAE that serves a subset."""
    per_fold = dataset.split.folds is not None and dataset.mae[mae].learns_from_cases
    return f"{mae}{FOLD}{subset}" if per_fold else mae


def residual_instance(dataset: Dataset, residuals: str, subset: int) -> str:
    """The instance of a residual set whose maps a subset's networks see."""
    settings = dataset.residuals[residuals]
    if isinstance(settings, GradCam):
        per_fold = dataset.split.folds is not None
    else:
        instances = (mae_instance(dataset, part.mae, subset) for part in settings.maps)
        per_fold = any(map(fold_of, instances))
    return f"{residuals}{FOLD}{subset}" if per_fold else residuals


def instances_of(dataset: Dataset, experiment: str, subset: int) -> Instances:
    """What an experiment's network of one subset sees and starts from."""
    chosen = dataset.experiments[configured(experiment)]
    residuals, encoder = chosen.residuals, chosen.mae_encoder
    return Instances(
        residual_instance(dataset, residuals, subset) if residuals else None,
        mae_instance(dataset, encoder.mae, subset) if encoder else None,
    )


def maes_behind(residuals: str, maes: Mapping[str, Mae]) -> dict[str, str]:
    """MAE → its instance behind an instance of a residual set; `maes` by configured name."""
    fold = fold_of(residuals)
    return {
        name: f"{name}{FOLD}{fold}" if fold and mae.learns_from_cases else name
        for name, mae in maes.items()
    }


def subsets_served(dataset: Dataset, residuals: str) -> tuple[int, ...]:
    """The subsets whose experiments see an instance of a residual set."""
    fold = fold_of(residuals)
    return dataset.subsets_with(residuals) if fold is None else (fold,)


def subsets_that_predict_unlabelled(dataset: Dataset) -> tuple[int, ...]:
    """The subsets whose networks predict cases without reference: all, or one of the folds.

    It is fold 1, or the first fold that all experiments have, which the report shows; of a bundle
    all folds that it has networks of.
    """
    if dataset.bundle:
        return tuple(sorted({subset for _, subset in dataset.bundle.members}))
    folds = dataset.split.folds is not None
    return dataset.shared_subsets[:1] if folds else dataset.all_subsets


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


def residual_instances(dataset: Dataset, experiments: Iterable[str]) -> list[str]:
    """The instances of residual sets that these experiments see."""
    names = list(experiments)
    if dataset.split.folds is None:
        return used_residuals(dataset, names)
    used = (
        instances_of(dataset, name, subset).residuals
        for name in names
        for subset in dataset.subsets_of(name)
    )
    return _in_order(filter(None, used))


def mae_instances(dataset: Dataset, experiments: Iterable[str]) -> list[str]:
    """The instances of MAEs that these experiments need, for residual maps or as encoders."""
    names = list(experiments)
    if dataset.split.folds is None:
        return used_maes(dataset, names)
    used = {
        mae_instance(dataset, mae, subset)
        for name in names
        for mae in used_maes(dataset, [name])
        for subset in dataset.subsets_of(name)
    }
    return _in_order(used)


def all_maes(dataset: Dataset) -> list[str]:
    """Every instance of every MAE, in the order of the configuration."""
    of_each = ((mae, subset) for mae in dataset.mae for subset in dataset.all_subsets)
    return list(dict.fromkeys(mae_instance(dataset, *each) for each in of_each))


def all_residuals(dataset: Dataset) -> list[str]:
    """Every instance of every residual set, in the order of the configuration."""
    of_each = ((name, subset) for name in dataset.residuals for subset in dataset.all_subsets)
    return list(dict.fromkeys(residual_instance(dataset, *each) for each in of_each))


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (configured(name), fold_of(name) or 0))
