"""What folds have of their own, and what serves all of them, in one line for a plan."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.settings import Dataset
from pipeline.settings.instances import mae_instances, residual_instances, used_maes, used_residuals


def fold_note(name: str, dataset: Dataset) -> str | None:
    """The line about a data set's folds; None without folds."""
    if dataset.split.folds is None:
        return None
    experiments = list(dataset.experiments)
    maes, residuals = used_maes(dataset, experiments), used_residuals(dataset, experiments)
    made = {*mae_instances(dataset, experiments), *residual_instances(dataset, experiments)}
    parts = [f"{name}: {dataset.split.folds} folds"]
    own_maes = [mae for mae in maes if mae not in made]
    own_sets = [each for each in residuals if each not in made]
    if own_maes:
        verb, whose = ("are", "their") if len(own_maes) > 1 else ("is", "its")
        why = f"because {whose} slices come from cases that are tested"
        parts.append(f"{_named('MAE', own_maes)} {verb} trained for each of them, {why}")
    if own_sets:
        verb = "are" if len(own_sets) > 1 else "is"
        likewise = "likewise" if own_maes else f"{verb} made for each of them"
        parts.append(f"{_named('residual set', own_sets)} {likewise}")
    shared = [_named("MAE", set(maes) & made), _named("residual set", set(residuals) & made)]
    if serving := " and ".join(filter(None, shared)):
        verb = "serve" if len({*maes, *residuals} & made) > 1 else "serves"
        parts.append(f"{serving} {verb} all {dataset.split.folds} folds")
    return "; ".join(parts)


def _named(kind: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    return f"{kind}{'s' * (len(listed) > 1)} {' and '.join(listed)}" if listed else ""
