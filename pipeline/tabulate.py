"""Stage `tabulate`: chosen experiments in a table, with published figures beside theirs."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.comparison import (
    best_value,
    experiment_numbers,
    score_cell,
    tell_repeats,
)
from pipeline.evaluation.score_files import read_summary
from pipeline.evaluation.table_notes import labelled_notes, repeat_notes
from pipeline.evaluation.tables import TextTable, escaped, write_table
from pipeline.settings import COSTS, Dataset, Table
from pipeline.settings.configuration import table_experiments
from pipeline.settings.instances import residual_instance
from pipeline.settings.tables import COLUMNS, Column
from pipeline.storage.layout import Layout
from pipeline.storage.roles import labelled_test_cases
from pipeline.storage.zarr_store import open_store

VERSION = 1
log = logging.getLogger(__name__)

TITLES = {
    **{key: column.title for key, column in COLUMNS.items()},
    "parameters": "Parameters",
    "residual_seconds": "Residual maps, s a patient",
}
Numbers = dict[str, Any]


def tabulate(layout: Layout, name: str, dataset: Dataset, seed: int) -> None:
    """Write one table of the configuration as Markdown and CSV.

    Raises:
        PipelineError: an experiment of it has not been evaluated, or a residual store is missing.
    """
    chosen = dataset.tables[name]
    table = build_table(layout, dataset, chosen, seed)
    page = layout.chosen_table(name, ".md")
    write_table(table, chosen.title, page, layout.chosen_table(name, ".csv"))
    log.info("table %s: %s", name, page)


def build_table(layout: Layout, dataset: Dataset, chosen: Table, seed: int) -> TextTable:
    """The table's cells, numbers and notes, of the subsets that all rows share; see `tabulate`."""
    names = table_experiments(chosen)
    subsets = dataset.subsets_of(*names)
    scores = [COLUMNS[key] for key in chosen.columns if key not in COSTS]
    measured = {name: _measured(layout, dataset, name, subsets, scores, seed) for name in names}
    tell_repeats(measured)
    published = {key for row in chosen.rows for key in row.published}
    best = {key: _best_of_groups(chosen, key, measured) for key in chosen.columns}
    table = TextTable(list(chosen.headings), names=len(chosen.headings))
    for key in chosen.columns:
        table.headings.append(TITLES[key])
        if key in published:
            table.headings.append(f"{TITLES[key]}, published")
    for row in chosen.rows:
        numbers, cells = measured[row.experiment], list(row.labels)
        group = _group(chosen, row.labels)
        for key in chosen.columns:
            ours, theirs = best[key][group]
            cells.append(_cell(key, numbers, ours, dataset))
            if key in published:
                cells.append(_published_cell(key, row.published.get(key), theirs))
        table.rows.append(cells)
        labels = dict(zip(chosen.headings, row.labels, strict=True))
        printed = {f"{key}_published": value for key, value in row.published.items()}
        table.numbers.append(labels | numbers | printed)
    patients = measured[names[0]]["patients"]
    table.notes = _notes(chosen, dataset, subsets, patients, published)
    table.notes += [*repeat_notes(measured), *labelled_notes(measured)]
    return table


def _measured(
    layout: Layout,
    dataset: Dataset,
    name: str,
    subsets: Sequence[int],
    columns: Sequence[Column],
    seed: int,
) -> Numbers:
    summary = read_summary(layout, name, dataset.evaluation, seed, subsets)
    numbers = experiment_numbers(layout, name, summary, columns)
    residuals = dataset.experiments[name].residuals
    numbers["residual_seconds"] = None
    if residuals is not None:
        tested = labelled_test_cases(layout, subsets)
        made = ((residual_instance(dataset, residuals, number), case) for number, case in tested)
        stores = (open_store(layout.residual_store(instance, case)) for instance, case in made)
        seconds: list[Any] = [store.attrs["seconds"] for store in stores]
        numbers["residual_seconds"] = float(np.mean(seconds))
    return numbers


def _group(chosen: Table, labels: Sequence[str]) -> str:
    """The group of a row: the best figure of each group is bold."""
    return labels[chosen.headings.index(chosen.best_within)] if chosen.best_within else ""


def _best_of_groups(
    chosen: Table, key: str, measured: Mapping[str, Numbers]
) -> dict[str, tuple[float | None, float | None]]:
    """The best of our figures and of the published ones, in each group of rows."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for row in chosen.rows:
        group = _group(chosen, row.labels)
        ours[group].append(measured[row.experiment][key])
        theirs[group].append(row.published.get(key))
    low = key in COSTS or COLUMNS[key].low_is_best
    return {group: (best_value(ours[group], low), best_value(theirs[group], low)) for group in ours}


def _cell(key: str, numbers: Numbers, best: float | None, dataset: Dataset) -> str:
    if key in COSTS:
        return _cost_cell(key, numbers[key])
    return score_cell(COLUMNS[key], numbers, best, dataset.evaluation)


def _cost_cell(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e6:.2f} M" if key == "parameters" else f"{value:.2f}"


def _published_cell(key: str, value: float | None, best: float | None) -> str:
    if value is None or key in COSTS:
        return _cost_cell(key, value)
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"


def _notes(
    chosen: Table, dataset: Dataset, subsets: Sequence[int], patients: int, published: set[str]
) -> list[str]:
    listed = f"{', '.join(map(str, subsets))} of {dataset.split.parts}"
    part = "fold" if dataset.split.folds else "subset"
    over = f"over the {patients} test patients of {part} {listed}"
    if len(subsets) > 1 and dataset.split.folds:
        over = f"over {patients} test patients, each tested once, in the folds {listed}"
    elif len(subsets) > 1:
        over = f"within each of the subsets {listed}, then over these "
        over += f"subsets ({patients} test patients)"
    within = f" within each {escaped(chosen.best_within)}" if chosen.best_within else ""
    notes = [
        f"Means {over}; in brackets the {dataset.evaluation.confidence:.0%} bootstrap interval "
        f"over patients, where one is defined. Bold: best{within}."
    ]
    if published:
        notes.append(
            "Published figures are those printed in the publication, from its own data and runs; "
            "they are shown for comparison and enter nothing."
        )
    if "residual_seconds" in chosen.columns:
        seconds = "Seconds a patient are those that the residual stores record"
        notes.append(f"{seconds}, of the machine that made them.")
    return notes
