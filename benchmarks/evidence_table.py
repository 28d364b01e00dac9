"""The table of the evidence: a row for each number of labelled cases and method, with its tests."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from grcsf.statistics import holm, mean_of_group_means, paired_wilcoxon
from pipeline.evaluation.comparison import score_cell
from pipeline.evaluation.contrast import IMAGE
from pipeline.evaluation.summary import patients_interval
from pipeline.evaluation.tables import TextTable
from pipeline.settings import Dataset, Evaluation
from pipeline.settings.tables import DICE

RECOMMENDED = "recommended"  # the method that is tested against each other one
TITLES = {
    "unetpp": "UNet++",
    "mrm_input": "UNet++, maps as input",
    "paper": "GRCSF as printed",
    RECOMMENDED: "GRCSF as recommended",
}
Contrasts = Mapping[str, Mapping[str, float]]  # residual set → map, or the image itself → mean AUC


class Scored(NamedTuple):
    """One experiment: a row of the table."""

    experiment: str
    method: str
    training: int  # cases that it has learnt from, of one subset or fold
    validation: int
    residuals: str | None
    patients: pd.DataFrame  # by case, in one order for all: dice, subset, group
    dice: Mapping[str, Any]  # the summary's: mean, low, high, undefined, of repeats by_repeat, too
    mean_over: str  # `patients`, or `subsets`

    @property
    def labelled(self) -> int:
        """Cases whose label it has seen."""
        return self.training + self.validation


def build_table(
    rows: Sequence[Scored], dataset: Dataset, contrasts: Contrasts, seed: int
) -> TextTable:
    """A row for each number of labelled cases and method."""
    evaluation = dataset.evaluation
    baseline = method_of_baseline(rows, evaluation)
    to_baseline = f"Difference to {title(baseline)}" if baseline else "Difference"
    against = f"p of {title(RECOMMENDED)} against it"
    table = TextTable(
        ["Labelled cases", "Method", "Dice", to_baseline, "AUC of its maps", against], names=2
    )
    tests = recommended_against_others(rows)
    for row in rows:
        numbers = {**score_numbers(row), **tests.get(row.experiment, {})}
        reference = same_labelled(rows, row, baseline)
        if reference and reference is not row:
            numbers |= difference(row, reference, evaluation, seed)
        maps = told_maps(row, dataset, contrasts)
        numbers |= {f"auc, {name}": contrasts[str(row.residuals)][name] for name in maps}
        table.numbers.append(numbers)
        cells = [score_cell(DICE, numbers, None, evaluation), difference_cell(numbers)]
        cells += [", ".join(maps.values()) or "–", p_cell(numbers.get("p_holm"))]
        where = f"{row.labelled} ({row.training} + {row.validation})"
        table.rows.append([where, title(row.method), *cells])
    table.notes = notes(rows, dataset, contrasts, len(tests))
    return table


def title(method: str) -> str:
    """A method as the table and the figure call it."""
    return TITLES.get(method, method)


def method_of_baseline(rows: Sequence[Scored], evaluation: Evaluation) -> str:
    """The method of `evaluation.baseline`, which differences are taken to; empty without one."""
    return next((row.method for row in rows if row.experiment == evaluation.baseline), "")


def same_labelled(rows: Sequence[Scored], row: Scored, method: str) -> Scored | None:
    """A method's experiment on as many labelled cases as another one's."""
    alike = (other for other in rows if other.labelled == row.labelled and other.method == method)
    return next(alike, None)


def score_numbers(row: Scored) -> dict[str, Any]:
    """What the scores of one experiment say, under the names that the comparison gives them."""
    numbers = {"experiment": row.experiment, "method": row.method, "labelled_cases": row.labelled}
    numbers |= {"training": row.training, "validation": row.validation}
    numbers |= {"patients": len(row.patients), "repeats": len(row.dice.get("by_repeat", [1]))}
    numbers |= {"dice": row.dice["mean"], "dice_sd": row.dice.get("sd_over_repeats")}
    return numbers | {f"dice_{part}": row.dice[part] for part in ("low", "high", "undefined")}


def difference(
    row: Scored, reference: Scored, evaluation: Evaluation, seed: int
) -> dict[str, float]:
    """Mean difference of Dice, patient by patient, and its interval over patients."""
    values = (row.patients["dice"] - reference.patients["dice"]).tolist()
    by_subset = row.mean_over == "subsets"
    subsets = row.patients["subset"].tolist() if by_subset else [1] * len(values)
    interval = patients_interval(values, subsets, evaluation, seed)
    mean = mean_of_group_means(values, subsets).mean
    return {
        "difference": mean,
        "difference_low": interval.low,
        "difference_high": interval.high,
    }


def recommended_against_others(rows: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """Tests of the recommended method against each other one on as many labelled cases.

    By the other one's experiment: p before and after Holm's correction over all of these tests.
    """
    tests = {}
    for other in rows:
        own = same_labelled(rows, other, RECOMMENDED)
        if own and own is not other:
            values = own.patients["dice"].tolist(), other.patients["dice"].tolist()
            tests[other.experiment] = paired_wilcoxon(*values)
    corrected = holm([test.p_value for test in tests.values()])
    return {
        name: {"p": test.p_value, "p_holm": float(p), "pairs": test.pairs}
        for (name, test), p in zip(tests.items(), corrected, strict=True)
    }


def told_maps(row: Scored, dataset: Dataset, contrasts: Contrasts) -> dict[str, str]:
    """Each map of an experiment's residual set with its AUC as the report tells it."""
    if row.residuals is None:
        return {}
    signed = dataset.residuals[row.residuals].signed
    aucs = contrasts.get(row.residuals, {})
    return {name: told_auc(auc, signed) for name, auc in aucs.items() if name != IMAGE}


def told_auc(auc: float, signed: bool) -> str:
    """Signed maps tell as much below 0.5 as above it: there a lesion pixel is the darker one."""
    if math.isnan(auc):
        return "–"
    return f"{1 - auc:.3f} darker" if signed and auc < 0.5 else f"{auc:.3f}"


def difference_cell(numbers: Mapping[str, Any]) -> str:
    """A difference and its interval, with signs."""
    if math.isnan(numbers.get("difference", math.nan)):
        return "–"
    low, high = numbers["difference_low"], numbers["difference_high"]
    bounds = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return f"{numbers['difference']:+.3f}{bounds}"


def p_cell(p: float | None) -> str:
    """A p value with as many digits as a reader needs."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def notes(rows: Sequence[Scored], dataset: Dataset, contrasts: Contrasts, tests: int) -> list[str]:
    """What each figure is, and of how many patients, cohorts and repeats."""
    evaluation, folds = dataset.evaluation, dataset.split.folds
    repeats: dict[int, set[int]] = {}
    for row in rows:
        repeats.setdefault(row.labelled, set()).add(len(row.dice.get("by_repeat", [1])))
    trained = ", ".join(
        f"{' or '.join(map(str, sorted(counts)))} on {labelled} labelled cases"
        for labelled, counts in repeats.items()
    )
    level = f"{evaluation.confidence:.0%}"
    images = {f"{aucs[IMAGE]:.3f}" for aucs in contrasts.values() if IMAGE in aucs} - {"nan"}
    image = f" The image itself has {' and '.join(sorted(images))}." if images else ""
    return [
        f"Dice: mean over {tested(rows[0].patients, dataset)}, each over all voxels of the volume "
        f"and as its mean over the repeats; in brackets the {level} bootstrap interval over "
        f"patients (BCa, {evaluation.bootstrap_samples:,} samples); ± the standard deviation "
        f"(n − 1) of the repeats' own means. Trainings that differ by their seed alone: {trained}.",
        "Labelled cases: those that an experiment may learn from (training + validation"
        + ("; of one fold)." if folds else ")."),
        "Difference: patient by patient, to the same number of labelled cases, with its interval "
        "over patients. No interval shows how much another training would differ.",
        "AUC of its maps, at each mask ratio in the configuration's order: how often a lesion "
        "pixel is brighter in the residual map than one around it (darker: of signed maps, how "
        f"often it is the darker one), mean over test cases; 0.5 is chance.{image}",
        f"p: {title(RECOMMENDED)} against the row's method, paired two-sided Wilcoxon signed-rank "
        f"test over the patients' means, Holm-corrected over all {tests} tests of the table.",
    ]


def tested(patients: pd.DataFrame, dataset: Dataset) -> str:
    """How many patients of how many groups are tested, and what was held out."""
    groups = len({group for group in patients["group"] if group})
    text = f"{len(patients)} test patients"
    if groups:
        held_out = ", held out whole" if dataset.split.by == "group" else ""
        text += f" of {groups} group{'s' * (groups > 1)}{held_out}"
    folds = dataset.split.folds
    return text + (f", each tested once in {folds} folds" if folds else "")
