"""The notes below the comparison: how its numbers are computed, and what they cannot show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.tables import escaped
from pipeline.settings import Evaluation
from pipeline.settings.tables import DICE, Column

Numbers = Mapping[str, Mapping[str, Any]]
RANKS = "Bold: best; underlined: second-best of three or more"


def table_notes(
    columns: Sequence[Column],
    summaries: Mapping[str, Mapping[str, Any]],  # experiment → as evaluate wrote it
    numbers: Numbers,  # experiment → its numbers in the table
    evaluation: Evaluation,
    external: str = "",
) -> list[str]:
    """The lines below the table, or below the rows of an external data set."""
    first = next(iter(summaries.values()))
    if external:
        notes = [*test_notes(columns, numbers, evaluation), *_undefined(columns, numbers)]
        if evaluation.metrics == "calcium":
            notes += [_agatston(name, summary) for name, summary in summaries.items()]
        return [_external(external, first, numbers), *(f"{escaped(external)}: {n}" for n in notes)]
    notes = [_means(first, evaluation)]
    if evaluation.metrics == "calcium":
        notes.append(_calcium(first))
    notes += [*repeat_notes(numbers), *labelled_notes(numbers)]
    notes += test_notes(columns, numbers, evaluation)
    notes += _undefined(columns, numbers)
    if evaluation.metrics == "calcium":
        notes += [_agatston(name, summary) for name, summary in summaries.items()]
    return notes


def _external(name: str, summary: Mapping[str, Any], numbers: Numbers) -> str:
    """Who the patients of an external data set are, and whose scores are averaged."""
    patients, subsets = summary["patients"], len(summary["subsets"])
    told = (
        f"External data set {escaped(name)}: {patients} patient{'s' if patients > 1 else ''}, from "
        "which nothing was learned, in rows and tests of their own"
    )
    if all(row.get("repeats", 1) == 1 for row in numbers.values()):
        return f"{told}."
    of = "all repeats" if subsets == 1 else f"all {subsets} subsets or folds, and all repeats"
    return (
        f"{told}. A patient's score is the mean over the networks of {of}; ± is the standard "
        "deviation (n − 1) of the networks' own values."
    )


def repeat_notes(numbers: Numbers) -> list[str]:
    """What ± means, and how often each experiment was trained; nothing if each was once."""
    repeats = {name: row.get("repeats", 1) for name, row in numbers.items()}
    several = [f"{escaped(name)} {count}" for name, count in repeats.items() if count > 1]
    if not several:
        return []
    listed = ", ".join(several) + ("; no other has any" if len(several) < len(repeats) else "")
    return [
        f"Repeats, trainings that differ by their seed alone: {listed}. A patient's score is the "
        "mean over the repeats: means, intervals and tests rest on it, so brackets tell the spread "
        "of patients alone. ± is the standard deviation (n − 1) of the repeats' own values. What "
        "is pooled over patients is computed for each repeat and averaged."
    ]


def labelled_notes(numbers: Numbers) -> list[str]:
    """Which experiments were trained on fewer labelled cases than there are, and on how many."""
    fewer = {
        name: row["labelled_cases"] for name, row in numbers.items() if "labelled_cases" in row
    }
    if not fewer:
        return []
    listed = ", ".join(f"{escaped(name)} {count}" for name, count in fewer.items())
    return [f"Trained on fewer labelled cases of each subset, validation among them: {listed}."]


def _means(summary: Mapping[str, Any], evaluation: Evaluation) -> str:
    patients, subsets = summary["patients"], len(summary["subsets"])
    over = f"over {patients} test patient{'s' if patients > 1 else ''}"
    if subsets > 1 and summary["mean_over"] == "patients":
        over += f", each tested once in {subsets} folds"
    elif subsets > 1:
        over = f"within each of {subsets} subsets, then over the subsets ({patients} test patients)"
    scores = "Dice: mean" if evaluation.metrics == "calcium" else "Means"
    return (
        f"{scores} {over}, each over all voxels of the volume; in brackets the "
        f"{evaluation.confidence:.0%} bootstrap interval over patients (BCa, "
        f"{evaluation.bootstrap_samples:,} samples), where one is defined. {RANKS}."
    )


def _calcium(summary: Mapping[str, Any]) -> str:
    calcium = summary["calcium"]
    voters = "labelled voxels" if calcium["majority_over"] == "labelled" else "all its voxels"
    return (
        "After post-processing, lesions are 3D 6-connected components of HU > "
        f"{calcium['threshold_hu']:g} of the whole volume, labelled by the majority of {voters}, "
        "and pooled over patients; before it, plain voxel counts, pooled. The last row takes every "
        "voxel above the threshold for calcium."
    )


def test_notes(columns: Sequence[Column], numbers: Numbers, evaluation: Evaluation) -> list[str]:
    """What the stars mean, where none can appear, and the difference of each method's Dice."""
    baseline = evaluation.baseline
    tested = {
        name: row for name, row in numbers.items() if any(f"{one.key}_p" in row for one in columns)
    }
    if not tested:
        return []
    pooled = any(column.where[0] != "scores" for column in columns)
    level = f"{1 - evaluation.confidence:.2g}"
    notes = [
        f"\\* differs from {baseline}: paired two-sided Wilcoxon signed-rank test over patients, "
        f"Holm-corrected over {len(tested)} method{'s' if len(tested) > 1 else ''} in each "
        f"column, p < {level}"
        + ("; of pooled columns, the patients' own scores are tested." if pooled else ".")
    ]
    out_of_reach = [
        (row[f"{column.key}_differing"], row[f"{column.key}_smallest_p"])
        for row in tested.values()
        for column in columns
        if row[f"{column.key}_smallest_p"] >= 1 - evaluation.confidence  # not if it is NaN
    ]
    if out_of_reach:
        pairs, smallest = max(out_of_reach)
        notes.append(
            f"With {pairs} patient{'' if pairs == 1 else 's'} that differ{'s' * (pairs == 1)} from "
            f"{baseline}, the smallest p that this test can reach after the correction is "
            f"{smallest:.2g}: no star can appear there, however large the difference."
        )
    if DICE in columns:
        notes += [_difference(name, row, baseline) for name, row in tested.items()]
    return notes


def _difference(name: str, row: Mapping[str, Any], baseline: str | None) -> str:
    low, high = row["dice_difference_low"], row["dice_difference_high"]
    interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return (
        f"{name} − {baseline}, Dice: {row['dice_difference']:+.3f}{interval}, "
        f"p = {row['dice_p']:.2g}."
    )


def _undefined(columns: Sequence[Column], numbers: Numbers) -> list[str]:
    notes = []
    for name, row in numbers.items():
        counts: dict[int, list[str]] = {}
        for column in columns:
            if missing := row.get(f"{column.key}_undefined", 0):
                counts.setdefault(missing, []).append(column.title)
        notes += [
            f"{name}: {' and '.join(titles)} undefined for {missing} of {row['patients']} patients "
            "(no lesion in the reference), left out of the mean."
            for missing, titles in counts.items()
        ]
    return notes


def _agatston(name: str, summary: Mapping[str, Any]) -> str:
    scores = summary["calcium"]["agatston"]
    shown = {key: _with_interval(scores, key) for key in ("icc", "risk_kappa")}
    repeats = f", mean over {summary['repeats']} repeats" if "repeats" in summary else ""
    same = f"{round(scores['same_risk'], 1):g}"
    return (
        f"{name}, Agatston score against the reference's{repeats}: ICC (absolute agreement) "
        f"{shown['icc']}; risk group the same in {same} of {summary['patients']} patients, "
        f"linearly weighted kappa {shown['risk_kappa']}."
    )


def _with_interval(scores: Mapping[str, Any], key: str) -> str:
    if scores[key] is None:
        return "undefined"
    low, high = scores[f"{key}_low"], scores[f"{key}_high"]
    return f"{scores[key]:.3f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")
