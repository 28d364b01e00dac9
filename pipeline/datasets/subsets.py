"""Who trains, who validates, who tests: the pure part of stage `split` (section 4.3, design 6).

A split by group keeps groups (cohorts, hospitals) whole: no group both learns and tests. A hash of
seed and name gives the order, so that a new case moves as few others as possible.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pipeline.errors import PipelineError
from pipeline.settings import Experiment, Split

Subset = dict[str, list[str]]


def split_cases(cases: Mapping[str, Mapping[str, Any]], settings: Split, seed: int) -> list[Subset]:
    """Divide labelled cases by `group` and `role`; roles that the data set gives make one subset.

    Of folds, each subset holds all cases, and tests those that no other one tests.

    Raises:
        PipelineError: too few cases or groups, missing roles, roles that divide a group.
    """
    if any(case["role"] for case in cases.values()):
        if settings.folds:
            raise PipelineError(
                f"split.folds: found {settings.folds}, but the data set gives roles of its own, "
                "and folds test every case; leave folds out, or leave the roles empty"
            )
        if settings.subsets != 1:
            raise PipelineError(
                f"split.subsets: found {settings.subsets}, but the data set gives roles of its "
                "own, which make one subset; set it to 1 or leave the roles empty"
            )
        subset = _given_roles(cases, settings, seed)
        if settings.by == "group":
            _check_whole_groups(cases, subset)
        return [subset]
    groups: dict[str, list[str]] = defaultdict(list)
    for name, case in cases.items():
        groups[case["group"] if settings.by == "group" else name].append(name)
    if settings.folds:
        parts = pack(groups, settings.folds, seed, key="folds", of=settings.by)
        tested = ({case for name in part for case in groups[name]} for part in parts)
        return [_divided(cases, test, settings, seed) for test in tested]
    packed = pack(groups, settings.subsets, seed, of=settings.by)
    return [_subset({name: groups[name] for name in part}, settings, seed) for part in packed]


def divided_cases(
    cases: Mapping[str, Mapping[str, Any]], settings: Split, seed: int, *, applied: bool
) -> list[Subset]:
    """As `split_cases`; where a trained model is `applied`, subsets in which nobody is."""
    if not applied:
        return split_cases(cases, settings, seed)
    return [{"train": [], "validation": [], "test": []} for _ in range(settings.parts)]


def labelled_part(
    subset: Mapping[str, Sequence[str]], experiment: str, settings: Experiment, seed: int
) -> Subset:
    """The cases by role that an experiment's training uses of a subset; all if it asks for none.

    The first of each role in hash order, so that fewer cases are among more in both roles. The same
    share of them validates as of the whole subset, but at least one, and one is left for training.

    Raises:
        PipelineError: the subset has fewer than `labelled_cases`.
    """
    wanted, train, validation = settings.labelled_cases, subset["train"], subset["validation"]
    if wanted is None:
        return {role: list(names) for role, names in subset.items()}
    there = len(train) + len(validation)
    if wanted > there:
        raise PipelineError(
            f"experiments.{experiment}.labelled_cases: found {wanted}, expected at most {there}, "
            "the training and validation cases of a subset; lower it, or leave it out for all"
        )
    # rounded in whole numbers: one more case is one more of either role, and never one fewer
    share = (2 * wanted * len(validation) + there) // (2 * there)
    validating = min(max(1, share), wanted - 1)
    return {
        **{role: list(names) for role, names in subset.items()},
        "train": sorted(_shuffled(train, seed)[: wanted - validating]),
        "validation": sorted(_shuffled(validation, seed)[:validating]),
    }


def pack(
    groups: Mapping[str, Sequence[str]],
    subsets: int,
    seed: int,
    *,
    key: Literal["subsets", "folds"] = "subsets",
    of: Literal["case", "group"] = "group",  # what a group is called in an error
) -> list[list[str]]:
    """Whole groups packed into `subsets` parts of similar size, largest first into the emptiest.

    With enough groups, every subset gets at least two, because one becomes its test set. A fold is
    a test set as it is.
    """
    if len(groups) < subsets:
        expected = f"expected at least {subsets} for {subsets} {key}; lower split.{key}"
        raise PipelineError(f"split: found {len(groups)} {of}s, {expected}")
    parts: list[list[str]] = [[] for _ in range(subsets)]
    sizes = [0] * subsets
    # sorting is stable: groups of one size stay in hash order
    for name in sorted(_shuffled(groups, seed), key=lambda name: -len(groups[name])):
        emptiest = sizes.index(min(sizes))
        parts[emptiest].append(name)
        sizes[emptiest] += len(groups[name])
    if key == "subsets" and len(groups) >= 2 * subsets:
        for part in parts:
            if len(part) == 1:
                part.append(max(parts, key=len).pop())  # a part's last group is its smallest
    return parts


def closest_groups(groups: Mapping[str, Sequence[str]], wanted: float, seed: int) -> list[str]:
    """The groups, but not all, whose sizes sum as closely as possible to `wanted` (exact).

    On a tie the smaller sum wins, reached with the first groups in hash order.
    """
    reached: dict[int, tuple[str, ...]] = {0: ()}
    for name in _shuffled(groups, seed):
        for total, chosen in list(reached.items()):
            reached.setdefault(total + len(groups[name]), (*chosen, name))
    whole = sum(len(names) for names in groups.values())
    sums = [total for total in reached if 0 < total < whole]
    if not sums:
        remedy = "use split.by: case" if whole > 1 else "add cases"
        raise PipelineError(
            f"split: found {len(groups)} group(s) of {whole} cases in a subset, expected at least "
            f"2 to hold one out for test; lower split.subsets or {remedy}"
        )
    return list(reached[min(sums, key=lambda total: (abs(total - wanted), total))])


def _subset(groups: Mapping[str, Sequence[str]], settings: Split, seed: int) -> Subset:
    total = sum(len(names) for names in groups.values())
    wanted = settings.test if isinstance(settings.test, int) else settings.test * total
    if wanted >= total > 1:
        expected = f"expected less than the {total} cases of a subset; lower it"
        raise PipelineError(f"split.test: found {wanted:g}, {expected}")
    test = {name for group in closest_groups(groups, wanted, seed) for name in groups[group]}
    return _divided([name for names in groups.values() for name in names], test, settings, seed)


def _divided(names: Iterable[str], test: set[str], settings: Split, seed: int) -> Subset:
    """The subset with these test cases, and all other names divided in hash order."""
    rest = _shuffled(set(names) - test, seed)
    count = settings.validation
    validating = count if isinstance(count, int) else max(1, round(count * len(rest)))
    if validating >= len(rest):
        raise PipelineError(
            f"split: {len(rest) + len(test)} cases leave {len(rest)} for training and validation, "
            f"and validation wants {validating}; expected at least one for training: add cases or "
            "lower split.validation"
        )
    train, validation = sorted(rest[validating:]), sorted(rest[:validating])
    return {"train": train, "validation": validation, "test": sorted(test)}


def _given_roles(cases: Mapping[str, Mapping[str, Any]], settings: Split, seed: int) -> Subset:
    subset: Subset = {"train": [], "validation": [], "test": []}
    if {case["role"] for case in cases.values()} == {"", "test"}:
        # nnU-Net's labelsTs: only the test cases are given
        test = {name for name, case in cases.items() if case["role"]}
        return _divided(cases, test, settings, seed)
    for name, case in sorted(cases.items()):
        if case["role"] not in subset:
            raise PipelineError(
                f"split: case {name} has role {case['role']!r}, expected one of "
                f"{', '.join(subset)} for every labelled case once one has a role"
            )
        subset[case["role"]].append(name)
    for role, names in subset.items():
        if not names:
            raise PipelineError(f"split: no case has the role {role!r}; give it to at least one")
    return subset


def _check_whole_groups(cases: Mapping[str, Mapping[str, Any]], subset: Subset) -> None:
    """Refuse given roles that put a group both in test and in training or validation."""
    learning = {cases[name]["group"] for role in ("train", "validation") for name in subset[role]}
    both = sorted(learning & {cases[name]["group"] for name in subset["test"]} - {""})
    if both:
        raise PipelineError(
            f"split.by: group, but the data set's own roles put {', '.join(both)} both in test and "
            "in training or validation; correct the roles, or set split.by: case"
        )


def healthy_roles(scans: Iterable[str], seed: int) -> tuple[list[str], list[str]]:
    """Healthy scans that train an MAE, and a tenth of them, at least one, that validate it.

    Raises:
        PipelineError: there are fewer than two.
    """
    order = _shuffled(scans, seed)
    if len(order) < 2:
        raise PipelineError(
            f"found {len(order)} healthy scan{'s' * (len(order) != 1)}, expected at least 2, as "
            "one of them validates; give source.healthy, or set slices_of: all"
        )
    validating = max(1, round(len(order) / 10))
    return sorted(order[validating:]), sorted(order[:validating])


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """The names in hash order."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())
