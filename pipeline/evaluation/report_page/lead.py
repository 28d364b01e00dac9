"""The sentences at the top of the report: what was compared, who is ahead, what to look at first.

Their figures are those of the comparison and of the patients' scores; nothing is computed but
which of them is highest or lowest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.patient_scores import SET
from pipeline.settings import Dataset

Row = Mapping[str, Any]
"""An experiment's numbers in the comparison."""
LISTED = 6  # methods that are named in a sentence


def lead(
    title: str,
    dataset: Dataset,
    rows: Sequence[Row],
    scores: Mapping[str, pd.DataFrame],  # experiment → a row for each patient, as it is shown
    places: Mapping[str, str],  # case → where the page shows it, such as `#case-3`
    unlabelled: int,  # cases without reference that are shown, too
) -> list[Markup]:
    """Three sentences as HTML; `rows` are the comparison's, of the experiments of `scores`."""
    inside = (row for row in rows if not row.get(SET))  # external sets have rows of their own
    numbers = {str(row["experiment"]): row for row in inside if row["experiment"] in scores}
    best = ranked(numbers)
    rival = rival_of(best, numbers, dataset.evaluation.baseline)
    return [
        Markup("{}").format(_compared(title, dataset, numbers, unlabelled)),
        Markup("{}").format(_ahead(best, rival, numbers, dataset)),
        _look(best, rival, scores, places) + _of_repeats([*best[:1], rival], dataset) + ".",
    ]


def ranked(numbers: Mapping[str, Row]) -> list[str]:
    """The experiments that have a mean Dice, the highest first."""
    defined = [name for name, row in numbers.items() if row["dice"] is not None]
    return sorted(defined, key=lambda name: -float(numbers[name]["dice"]))


def rival_of(best: Sequence[str], numbers: Mapping[str, Row], baseline: str | None) -> str | None:
    """Whom the first is compared with: the baseline, or where it is that itself, the second."""
    if len(best) < 2:
        return None
    return baseline if baseline in best[1:] and baseline in numbers else best[1]


def _compared(title: str, dataset: Dataset, numbers: Mapping[str, Row], unlabelled: int) -> str:
    names, patients = list(numbers), next(iter(numbers.values()))["patients"]
    listed = _joined(names) if len(names) <= LISTED else f"{len(names)} methods"
    verb = "was scored" if len(names) == 1 else "were compared"
    synthetic = ", synthetic images" if dataset.source.phantom else ""
    folds = f", each tested once in {dataset.split.folds} folds" if dataset.split.folds else ""
    shown = "is shown" if unlabelled == 1 else "are shown"
    further = f"; {unlabelled} more without reference {shown}" if unlabelled else ""
    return f"{listed} {verb} on {_counted(patients)} of {title}{synthetic}{folds}{further}."


def _ahead(
    best: Sequence[str], rival: str | None, numbers: Mapping[str, Row], dataset: Dataset
) -> str:
    if not best:
        return "No mean Dice is defined, so nothing can be said of who is ahead."
    first, value = best[0], _figure(numbers, best[0])
    if rival is None:
        low, high = numbers[first]["dice_low"], numbers[first]["dice_high"]
        interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
        return f"The mean Dice of {first} is {value}{interval}; there is no other to compare with."
    second = best[1]
    if value == _figure(numbers, second):
        return f"Nobody is ahead: {first} and {second} have the same mean Dice, {value}."
    told = (
        f"{first} has the highest mean Dice, {value} against {_figure(numbers, rival)} of {rival}"
    )
    if rival != second:
        told += f" ({second}, second with {_figure(numbers, second)}, is not tested against it)"
    return told + _certainty(first, rival, numbers, dataset)


def _figure(numbers: Mapping[str, Row], name: str) -> str:
    return f"{numbers[name]['dice']:.3f}"


def _certainty(first: str, rival: str, numbers: Mapping[str, Row], dataset: Dataset) -> str:
    """The difference that the comparison tested between the two, and what it shows."""
    baseline, level = dataset.evaluation.baseline, 1 - dataset.evaluation.confidence
    if baseline not in (first, rival):
        return "; no baseline among them is set, so no difference is tested."
    # what is tested is each method less the baseline
    row, sign = (numbers[rival], -1) if first == baseline else (numbers[first], 1)
    p = row["dice_p"]
    if math.isnan(p):
        return "; no patient has a Dice of both, so the difference cannot be tested."
    low, high = sorted(sign * row[f"dice_difference_{end}"] for end in ("low", "high"))
    interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    shown = f": {sign * row['dice_difference']:+.3f}{interval}, p = {p:.2g}"
    if p < level:
        return f"{shown}, more than chance among patients easily makes."
    if row["dice_smallest_p"] >= level:
        count = row["dice_differing"]
        few = f"{_counted(count)} that differ{'s' if count == 1 else ''}"
        return f"{shown}; with {few}, no difference could be told from chance."
    return f"{shown}, not told apart from chance among patients."


def _look(
    best: Sequence[str],
    rival: str | None,
    scores: Mapping[str, pd.DataFrame],
    places: Mapping[str, str],
) -> Markup:
    """The case where first and rival differ most, and the first's worst; without full stop."""
    if not best:
        return Markup('Look first at <a href="#cases">the cases</a>: none of them has a Dice')
    first = best[0]
    dice = scores[first]["dice"]
    worst = str(dice.idxmin())
    lowest = f"with the lowest Dice of {first}, {dice.loc[worst]:.3f}"
    theirs = scores[rival]["dice"] if rival else dice
    apart = (dice - theirs).abs()
    if not apart.max() > 0:  # nor where no case has both
        return Markup("Look first at {}, {}").format(_link(worst, places), lowest)
    most = str(apart.idxmax())
    values = f"{first} {dice.loc[most]:.3f}, {rival} {theirs.loc[most]:.3f}"
    told = Markup("Look first at {}, where the Dice of these two differ most ({})")
    ending = Markup(", which is also the lowest of {}").format(first)
    if most != worst:
        ending = Markup(", and at {}, {}").format(_link(worst, places), lowest)
    return told.format(_link(most, places), values) + ending


def _of_repeats(names: Sequence[str | None], dataset: Dataset) -> str:
    """Which repeat the Dice of single cases is of, if one of these is repeated."""
    repeated = any(name and dataset.experiments[name].repeats > 1 for name in names)
    return " (Dice of the first repeat, which is shown)" if repeated else ""


def _link(case: str, places: Mapping[str, str]) -> Markup:
    return Markup('<a href="{}">{}</a>').format(places[case], case)


def _joined(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _counted(patients: int) -> str:
    return f"{patients} test patient{'' if patients == 1 else 's'}"
