"""The cases and slices that figures show: those of the setting, or those that a rule chooses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.errors import PipelineError
from pipeline.evaluation.case_view import CaseView, view_case
from pipeline.evaluation.score_files import read_scores
from pipeline.evaluation.tables import escaped
from pipeline.settings import Dataset
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.roles import labelled_test_cases
from pipeline.storage.zarr_store import open_store

Scores = Mapping[str, pd.DataFrame]
GIVEN = "chosen in `figures.cases`"
TYPICAL = "the case of median Dice over all methods"
DIVIDED = "of all other cases that with the largest difference of Dice between two methods"


@dataclass(frozen=True)
class ShownCase:
    """A case with the slice that figures show of it."""

    view: CaseView
    subset: int  # whose networks predicted it
    why: str  # this case
    slice_why: str
    dice: dict[str, float]  # of the whole volume by experiment; none without a reference
    raw_dice: dict[str, float]  # the same before post-processing


def shown_cases(layout: Layout, dataset: Dataset) -> list[ShownCase]:
    """The cases of `figures.cases`, or else the typical one and the one that divides the methods.

    Raises:
        PipelineError: a chosen case has no masks, or not this slice; or a result is damaged.
    """
    subsets = dataset.shared_subsets
    # pictures show a first repeat, and figures in the captions have to fit them
    scores = {name: read_scores(layout, name, subsets, repeat=1) for name in dataset.experiments}
    unlabelled = dict.fromkeys(read_json(layout.split)["unlabelled"], subsets[0])
    tested = {case: subset for subset, case in labelled_test_cases(layout, subsets)}
    predicted = unlabelled | tested
    chosen: list[tuple[str, int | None, str]]
    chosen = [(each.case, each.slice, GIVEN) for each in dataset.figures.cases]
    shown = []
    for case, number, why in chosen or cases_by_rule(scores):
        _check(layout, case, number, predicted)
        view = view_case(layout, dataset, case, predicted[case], number and number - 1)
        scored = scores.items() if case in tested else ()
        dice, raw_dice = (
            {name: float(rows[column].loc[case]) for name, rows in scored}
            for column in ("dice", "raw_dice")
        )
        slice_why = "the slice with most of the largest lesion"
        if number:
            slice_why = GIVEN
        elif view.reference is None or not view.target.any():
            slice_why = "the slice with most predicted, or the middle one where nothing is"
        shown.append(ShownCase(view, predicted[case], why, slice_why, dice, raw_dice))
    return shown


def cases_by_rule(scores: Scores) -> list[tuple[str, int | None, str]]:
    """The typical case, and the one that divides the methods most; each with its rule."""
    typical, divided = typical_case(scores), dividing_case(scores)
    other = [] if divided is None else [(divided, None, DIVIDED)]
    return [(typical, None, TYPICAL), *other]


def typical_case(scores: Scores) -> str:
    """The case of median Dice, averaged over the experiments: neither the best nor the worst."""
    ordered = _dice(scores).mean(axis=1).sort_values(kind="stable")
    return str(ordered.index[len(ordered) // 2])


def dividing_case(scores: Scores) -> str | None:
    """Of all but the typical case, that whose best and worst Dice lie furthest apart.

    None where there is no other case, or one experiment alone.
    """
    dice = _dice(scores).drop(index=typical_case(scores))
    if dice.empty or len(scores) < 2:
        return None
    return str((dice.max(axis=1) - dice.min(axis=1)).idxmax())


def _dice(scores: Scores) -> pd.DataFrame:
    return pd.concat([rows["dice"] for rows in scores.values()], axis=1)


def case_notes(shown: ShownCase) -> str:
    """A case, its slice and the rules that chose them, as Markdown."""
    view = shown.view
    place = f"case {escaped(view.case)}, slice {view.z + 1} of {view.slices}"
    reasons = "; ".join(dict.fromkeys((shown.why, shown.slice_why)))
    text = f"{place} ({reasons})"
    if not shown.dice:
        return f"{text}; no reference"
    values = [f"{escaped(name)} {value:.3f}" for name, value in shown.dice.items()]
    return f"{text}; Dice of the whole volume: {', '.join(values)}"


def _check(layout: Layout, case: str, number: int | None, predicted: Mapping[str, int]) -> None:
    if case not in predicted:
        near = difflib.get_close_matches(case, predicted, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"such as {', '.join([*predicted][:3])}"
        raise PipelineError(
            f"figures.cases: found case {case}, which is not tested in the subsets that all "
            f"experiments share; choose one of the {len(predicted)} that they predict: {hint}"
        )
    slices: Any = open_store(layout.case_store(case)).attrs["slices"]
    if number and number > slices:
        found = f"figures.cases: found slice {number} of case {case}"
        raise PipelineError(f"{found}, which has slices 1 to {slices}; choose one of these")
