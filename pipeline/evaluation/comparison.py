"""The comparison: all experiments of a data set side by side, as cells, numbers and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import pandas as pd

from grcsf.statistics import holm, mean_of_group_means, paired_wilcoxon
from pipeline.errors import PipelineError
from pipeline.evaluation.patient_scores import SET
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.summary import patients_interval
from pipeline.evaluation.table_notes import table_notes
from pipeline.evaluation.tables import TextTable
from pipeline.settings import INTERNAL, Evaluation
from pipeline.settings.tables import DICE, TABLE_1, TABLE_2, Column
from pipeline.storage.batches import parts_of
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout

THRESHOLD_ALONE = "HU threshold alone"
BestTwo = tuple[str, str]
"""The best and the second-best figure of a column as they read; "" if there is none."""


def build_comparison(
    layout: Layout,
    experiments: Sequence[str],  # the rows, in this order
    subsets: Sequence[int],  # whose test patients count
    evaluation: Evaluation,
    seed: int,
) -> TextTable:
    """The table in the shape of the paper's Table 1, or for calcium of its Table 2.

    Patients of external data sets have rows and tests of their own, below: nothing is pooled.

    Raises:
        PipelineError: an experiment has no summary or no model yet.
    """
    given = (layout, experiments, subsets, evaluation, seed)
    table = _of_test_set(*given)
    external = read_json(layout.summary(experiments[0])).get("external", {})
    if not external:
        return table
    parts = {"": table, **{name: _of_test_set(*given, external=name) for name in external}}
    whole = TextTable(["Test set", *table.headings], names=2)
    for name, part in parts.items():
        whole.rows += [[name or INTERNAL, *row] for row in part.rows]
        whole.numbers += [{SET: name, **row} for row in part.numbers]
        whole.notes += part.notes
    return whole


def _of_test_set(
    layout: Layout,
    experiments: Sequence[str],
    subsets: Sequence[int],
    evaluation: Evaluation,
    seed: int,
    external: str = "",
) -> TextTable:
    """The rows and notes of the data set's own test cases, or of those of an external one."""
    columns = TABLE_2 if evaluation.metrics == "calcium" else TABLE_1
    tested = [column.patient for column in columns]
    summaries, patients, numbers = {}, {}, {}
    for name in experiments:
        summaries[name] = read_summary(layout, name, evaluation, seed, subsets, external)
        patients[name] = read_scores(layout, name, subsets, external=external, columns=tested)
        numbers[name] = experiment_numbers(layout, name, summaries[name], columns)
    tell_repeats(numbers)
    check_same_patients(layout, patients)
    by_subset = next(iter(summaries.values()))["mean_over"] == "subsets"
    add_tests(columns, evaluation, patients, numbers, seed, by_subset=by_subset)
    table = _rows(columns, numbers, evaluation)
    if evaluation.metrics == "calcium":
        _add_threshold_row(table, columns, next(iter(summaries.values())))
    table.notes = table_notes(columns, summaries, numbers, evaluation, external)
    return table


def _rows(
    columns: Sequence[Column], numbers: Mapping[str, dict[str, Any]], evaluation: Evaluation
) -> TextTable:
    """A row for each experiment, without notes."""
    table = TextTable(["Method", *(column.title for column in columns), "Parameters"])
    best = {
        column.key: best_two([row[column.key] for row in numbers.values()], column.low_is_best)
        for column in columns
    }
    for name, row in numbers.items():
        cells = [score_cell(column, row, evaluation, best[column.key]) for column in columns]
        count = row["parameters"]
        table.rows.append([name, *cells, "–" if count is None else f"{count / 1e6:.2f} M"])
        table.numbers.append(row)
    return table


def check_same_patients(layout: Layout, patients: Mapping[str, pd.DataFrame]) -> None:
    """Refuse scores that cannot be compared.

    Raises:
        PipelineError: an experiment was scored on other patients than the first.
    """
    (first, wanted), *others = patients.items()
    for name, scores in others:
        if set(scores.index) != set(wanted.index):
            raise PipelineError(
                f"{layout.scores(name)} scores other patients ({len(scores)}) than "
                f"{layout.scores(first)} ({len(wanted)}), expected the same; run evaluate again"
            )


def experiment_numbers(
    layout: Layout, name: str, summary: Mapping[str, Any], columns: Sequence[Column]
) -> dict[str, Any]:
    """An experiment's numbers by column, with intervals, and its number of parameters."""
    numbers: dict[str, Any] = {"experiment": name, "patients": summary["patients"]}
    repeated = "repeats" in summary
    if repeated:
        numbers["repeats"] = summary["repeats"]
    for column in columns:
        value = reduce(getitem, column.where, summary)
        if isinstance(value, dict):
            numbers[column.key] = value["mean"]
            parts = ("low", "high", "undefined")
            numbers |= {f"{column.key}_{part}": value[part] for part in parts}
            spread = value.get("sd_over_repeats")
        else:
            numbers[column.key] = value
            part, *where = column.where
            spread = reduce(getitem, where, summary[part]["sd_over_repeats"]) if repeated else None
        if repeated:
            numbers[f"{column.key}_sd"] = spread
    model = _model(layout, name, summary["subsets"][0])
    numbers["parameters"] = model["parameters"]
    if fewer := model.get("settings", {}).get("experiment", {}).get("labelled_cases"):
        numbers["labelled_cases"] = fewer
    return numbers


def _model(layout: Layout, name: str, subset: int) -> Mapping[str, Any]:
    """What is recorded of an experiment's network: by its training or, without one, by predict."""
    parts = parts_of(layout.predictions(name, subset))
    recorded = read_json(parts[0]) if parts else {}
    return recorded if "parameters" in recorded else read_json(layout.model(name, subset))


def tell_repeats(numbers: Mapping[str, dict[str, Any]]) -> None:
    """Where an experiment of a table is repeated, say of the others that they are not."""
    if any("repeats" in row for row in numbers.values()):
        for row in numbers.values():
            row.setdefault("repeats", 1)


def add_tests(
    columns: Sequence[Column],
    evaluation: Evaluation,
    patients: Mapping[str, pd.DataFrame],  # experiment → its patients' scores
    numbers: Mapping[str, dict[str, Any]],  # experiment → its row, to which the tests are added
    seed: int,
    *,
    by_subset: bool,  # whether means are those of the subsets' means
) -> None:
    """Test every experiment against the baseline, column by column, where the baseline is one."""
    others = [name for name in numbers if name != evaluation.baseline]
    if evaluation.baseline in numbers and others:
        for column in columns:
            _test(column, others, evaluation, patients, numbers, seed, by_subset=by_subset)


def _test(
    column: Column,
    others: Sequence[str],
    evaluation: Evaluation,
    patients: Mapping[str, pd.DataFrame],
    numbers: Mapping[str, dict[str, Any]],
    seed: int,
    *,
    by_subset: bool,
) -> None:
    """Add each experiment's difference from the baseline, and its corrected p, to `numbers`."""
    baseline = patients[str(evaluation.baseline)]
    tests = []
    for name in others:
        own, other = patients[name].loc[baseline.index, column.patient], baseline[column.patient]
        difference = (own - other).tolist()
        subsets = baseline["subset"].tolist() if by_subset else [1] * len(difference)
        interval = patients_interval(difference, subsets, evaluation, seed)
        test = paired_wilcoxon(own.tolist(), other.tolist())
        tests.append(test)
        numbers[name] |= {
            f"{column.key}_difference": mean_of_group_means(difference, subsets).mean,
            f"{column.key}_difference_low": interval.low,
            f"{column.key}_difference_high": interval.high,
            f"{column.key}_pairs": test.pairs,
            f"{column.key}_differing": test.differing,
        }
    corrected = holm([test.p_value for test in tests])
    # Holm is monotone: the smallest reachable p values give the smallest reachable corrected ones
    smallest = holm([test.smallest_p for test in tests])
    for name, p_value, least in zip(others, corrected, smallest, strict=True):
        numbers[name] |= {f"{column.key}_p": float(p_value), f"{column.key}_smallest_p": least}


def best_two(figures: Iterable[float | None], low_is_best: bool) -> BestTwo:
    """How the best and the second-best of the defined figures read.

    There is no best where all of them read the same, and no second where only two do not.
    """
    read = {f"{value:.3f}" for value in figures if value is not None}
    first, *others = [*sorted(read, key=float, reverse=not low_is_best), ""]
    return (first if len(read) > 1 else ""), (others[0] if len(read) > 2 else "")


def emphasised(shown: str, best: BestTwo) -> str:
    """A figure in Markdown: the best bold, the second-best underlined, as in the paper."""
    first, second = best
    if shown == first:
        return f"**{shown}**"
    return f"<u>{shown}</u>" if shown == second else shown


def score_cell(
    column: Column,
    numbers: Mapping[str, Any],
    evaluation: Evaluation,
    best: BestTwo = ("", ""),
) -> str:
    """A score's cell: how it ranks, its spread over repeats, a star, its interval."""
    value = numbers[column.key]
    if value is None:
        return "undefined"
    shown = emphasised(f"{value:.3f}", best)
    if (spread := numbers.get(f"{column.key}_sd")) is not None:
        shown += f" ± {spread:.3f}"
    if numbers.get(f"{column.key}_p", math.nan) < 1 - evaluation.confidence:
        shown += r"\*"
    low, high = numbers.get(f"{column.key}_low"), numbers.get(f"{column.key}_high")
    if low is not None and high is not None:
        shown += f" [{low:.{column.digits}f}, {high:.{column.digits}f}]"
    return shown


def _add_threshold_row(
    table: TextTable, columns: Sequence[Column], summary: Mapping[str, Any]
) -> None:
    alone = summary["calcium"]["threshold_alone"]
    numbers: dict[str, Any] = {"experiment": THRESHOLD_ALONE, "patients": summary["patients"]}
    for column in columns:
        where = ["dice"] if column is DICE else column.where[1:]
        numbers[column.key] = reduce(getitem, where, alone)
    cells = ["undefined" if numbers[c.key] is None else f"{numbers[c.key]:.3f}" for c in columns]
    table.rows.append([THRESHOLD_ALONE, *cells, "–"])
    table.numbers.append(numbers)
