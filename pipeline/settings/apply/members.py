"""The networks of a bundle, and the files of weights that they and their residual maps need.

A bundle holds one network of an experiment, or several whose probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from pipeline.settings.configuration import Dataset
from pipeline.settings.instances import fold_of, mae_instance
from pipeline.settings.section import MOST_REPEATS, configured, repeat_name, repeat_of, require

ENDING = ".safetensors"


class Member(NamedTuple):
    """A trained network of a bundle's experiment."""

    subset: int  # or fold, from 1
    repeat: int  # from 1


class Weights(NamedTuple):
    """A file of weights: whose they are, and of which subset; of an MAE None."""

    name: str  # of a training, such as `grcsf/repeat-2`, or of an MAE's instance
    subset: int | None


def chosen_members(
    dataset: Dataset, experiment: str, subset: int | None, repeat: int | None
) -> list[Member]:
    """The networks of one subset and one repeat of an experiment; None stands for all."""
    subsets = dataset.subsets_of(experiment) if subset is None else (subset,)
    trainings = dataset.trainings_of(experiment)
    repeats = map(repeat_of, trainings) if repeat is None else (repeat,)
    return [Member(*each) for each in product(subsets, repeats)]


def described_members(described: Any, dataset: Dataset) -> list[Member]:
    """The members that a description of several networks names.

    Raises:
        ValueError: it names none, one twice, or one that no training of these settings makes.
    """
    members = [Member(each["subset"], each["repeat"]) for each in described]
    require(len(members) > 1, f"members: found {len(members)}, expected several")
    require(len(set(members)) == len(members), "members: found one of them twice")
    for member in members:
        subset = type(member.subset) is int and member.subset in dataset.all_subsets
        repeat = type(member.repeat) is int and 1 <= member.repeat <= MOST_REPEATS
        require(subset and repeat, f"members: found {tuple(member)!r:.60}")
    return members


def weight_files(
    dataset: Dataset, experiment: str, members: Sequence[Member]
) -> Mapping[str, Weights]:
    """Every file of weights by its name; `dataset` has what the experiment needs, and no more.

    What the subsets share, such as an MAE that serves all of them, is there once. Names have a full
    stop where there are several, as no name of the configuration has.
    """
    several, files = len(members) > 1, {}
    subsets = sorted({member.subset for member in members})
    for subset, repeat in members:
        name = f"network.subset-{subset}.repeat-{repeat}" if several else "network"
        files[name + ENDING] = Weights(repeat_name(experiment, repeat), subset)
    for mae in dataset.mae:
        for instance in {mae_instance(dataset, mae, subset): None for subset in subsets}:
            fold = f".fold-{fold_of(instance)}" if several and fold_of(instance) else ""
            files[f"mae-{mae}{fold}{ENDING}"] = Weights(instance, None)
    for name in dataset.experiments:
        for subset in subsets if name != experiment else ():
            of = f".subset-{subset}" if several else ""
            files[f"network-{name}{of}{ENDING}"] = Weights(name, subset)
    return files


def own_files(files: Mapping[str, Weights], experiment: str) -> list[str]:
    """The files of the experiment's own networks."""
    return [
        name
        for name, weights in files.items()
        if weights.subset is not None and configured(weights.name) == experiment
    ]
