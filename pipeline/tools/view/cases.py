"""The cases that the page leads through: whose masks they have, their scores, the worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.evaluation.score_files import read_scores
from pipeline.settings import Dataset
from pipeline.settings.instances import subsets_that_predict_unlabelled
from pipeline.settings.tables import DICE, TABLE_1, TABLE_2
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.roles import (
    check_ingested,
    external_cases,
    external_test_cases,
    subset_that_tests,
)

Scores = Mapping[str, pd.DataFrame]  # experiment → a row for each patient, by case


@dataclass(frozen=True)
class ListedCase:
    """A case of the page, and the subset whose networks' masks and maps are shown of it."""

    case: str
    subset: int | None  # None where no subset tests or predicts it
    dice: float | None  # by which the cases are in order
    scores: dict[str, list[float | None]]  # experiment → its scores, in the order of `columns`


def listed_cases(
    layout: Layout,
    dataset: Dataset,
    names: Sequence[str],  # without any, all that are tested or predicted
    subset: int | None,  # None: of each case the one that tests it
    repeat: int,
    by: str,  # the experiment whose Dice gives the order
) -> list[ListedCase]:
    """Cases in the order of their Dice, the lowest first; those without any come last.

    Raises:
        PipelineError: a case that is named is not there, or scores are damaged.
    """
    for name in names:
        check_ingested(layout, name)
    scores = _scores(layout, dataset, repeat)
    chosen = dict.fromkeys(names or _predicted(layout, dataset, subset))
    cases = [
        ListedCase(
            case=case,
            subset=subset or _subset_of(layout, dataset, case),
            dice=_value(scores, by, case, "dice"),
            scores=_of_case(scores, dataset, case),
        )
        for case in chosen
    ]
    return sorted(cases, key=lambda each: math.inf if each.dice is None else each.dice)


def columns(dataset: Dataset) -> dict[str, str]:
    """Title → column of the patients' scores, as in the comparison, with Dice first."""
    shown = TABLE_2 if dataset.evaluation.metrics == "calcium" else TABLE_1
    return {column.title: column.patient for column in (DICE, *shown)}


def shown_repeat(dataset: Dataset, experiment: str, repeat: int) -> int:
    """The repeat that is shown of an experiment: its last, where it has fewer."""
    return min(repeat, dataset.experiments[experiment].repeats)


def _scores(layout: Layout, dataset: Dataset, repeat: int) -> Scores:
    """The scores of every experiment that has been evaluated."""
    external = external_cases(layout) if layout.split.exists() else {}
    return {
        name: pd.concat(
            [
                read_scores(
                    layout,
                    name,
                    dataset.subsets_of(name),
                    shown_repeat(dataset, name, repeat),
                    external=each,
                )
                for each in ("", *external)
            ]
        )
        for name in dataset.experiments
        if layout.scores(name).exists()
    }


def _of_case(scores: Scores, dataset: Dataset, case: str) -> dict[str, list[float | None]]:
    keys = columns(dataset).values()
    return {
        name: [_value(scores, name, case, key) for key in keys]
        for name, rows in scores.items()
        if case in rows.index
    }


def _value(scores: Scores, experiment: str, case: str, column: str) -> float | None:
    """A patient's score; None where it is undefined or not there."""
    rows = scores.get(experiment)
    if rows is None or case not in rows.index or column not in rows:
        return None
    value = float(rows[column].loc[case])
    return value if math.isfinite(value) else None


def _predicted(layout: Layout, dataset: Dataset, subset: int | None) -> list[str]:
    """The tested cases, external ones last, then those without reference; before a split, all."""
    if not layout.split.exists():
        return list(read_json(layout.cases)["cases"])
    split = read_json(layout.split)
    tested = [
        case
        for number, roles in split["subsets"].items()
        if subset in (None, int(number))
        for case in roles["test"]
    ]
    predicting = subsets_that_predict_unlabelled(dataset)
    unlabelled = split["unlabelled"] if subset is None or subset in predicting else []
    external = [case for _, case in external_test_cases(layout, (1,))]
    return [*tested, *external, *unlabelled]


def _subset_of(layout: Layout, dataset: Dataset, case: str) -> int | None:
    tests = subset_that_tests(layout, case)
    if tests is not None or not layout.split.exists():
        return tests
    if case in read_json(layout.split)["unlabelled"]:
        return subsets_that_predict_unlabelled(dataset)[0]
    external = (each for _, each in external_test_cases(layout, (1,)))
    return dataset.shared_subsets[0] if case in external else None
