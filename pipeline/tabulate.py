"""Stage `tabulate`: chosen experiments in a table, with published figures beside theirs."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.comparison import (
    BestTwo,
    add_tests,
    best_two,
    check_same_patients,
    emphasised,
    experiment_numbers,
    score_cell,
    tell_repeats,
)
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.table_notes import RANKS, labelled_notes, repeat_notes, test_notes
from pipeline.evaluation.tables import TextTable, escaped, write_table
from pipeline.settings import COSTS, Dataset, GivenPredictions, Table, configured
from pipeline.settings.instances import residual_instance
from pipeline.settings.tables import COLUMNS, Column, table_experiments
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import MAPS_SECONDS, given_back_key
from pipeline.storage.roles import labelled_test_cases
from pipeline.storage.zarr_store import open_store, store_attributes

VERSION = 3
log = logging.getLogger(__name__)

TITLES = {
    **{key: column.title for key, column in COLUMNS.items()},
    "parameters": "Parameters",
    "macs": "G MACs",
    "residual_seconds": "Residual maps, s a patient",
    "network_seconds": "Network, s a patient",
}
Numbers = dict[str, Any]


def tabulate(
    layout: Layout, name: str, dataset: Dataset, seed: int, macs: Mapping[str, int] | None = None
) -> None:
    """Write one table of the configuration as Markdown and CSV.

    `macs` are those of a slice by experiment, for tables that have them as a column.

    Raises:
        PipelineError: an experiment of it has not been evaluated, or a residual store is missing.
    """
    chosen = dataset.tables[name]
    table = build_table(layout, dataset, chosen, seed, macs or {})
    page = layout.chosen_table(name, ".md")
    write_table(table, chosen.title, page, layout.chosen_table(name, ".csv"))
    log.info("table %s: %s", name, page)


def build_table(
    layout: Layout, dataset: Dataset, chosen: Table, seed: int, macs: Mapping[str, int]
) -> TextTable:
    """The table's cells, numbers and notes, of the subsets that all rows share; see `tabulate`."""
    names = table_experiments(chosen)
    subsets = dataset.subsets_of(*names)
    scores = [COLUMNS[key] for key in chosen.columns if key not in COSTS]
    measured = {name: _measured(layout, dataset, name, subsets, scores, seed) for name in names}
    for name, numbers in measured.items():
        numbers["macs"] = macs.get(name)
    tell_repeats(measured)
    _add_tests(layout, dataset, subsets, scores, measured, seed)
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
    table.notes += test_notes(scores, measured, dataset.evaluation)
    if dataset.external:
        table.notes.append("Of the data set's own test cases; the comparison has external ones.")
    return table


def _add_tests(
    layout: Layout,
    dataset: Dataset,
    subsets: Sequence[int],
    columns: Sequence[Column],
    measured: dict[str, Numbers],
    seed: int,
) -> None:
    """Test the rows' experiments against the baseline, where it is one of them."""
    if dataset.evaluation.baseline not in measured or not columns:
        return
    tested = [column.patient for column in columns]
    patients = {name: read_scores(layout, name, subsets, columns=tested) for name in measured}
    check_same_patients(layout, patients)
    by_subset = len(subsets) > 1 and not dataset.split.folds
    add_tests(columns, dataset.evaluation, patients, measured, seed, by_subset=by_subset)


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
    tested, members = labelled_test_cases(layout, subsets), dataset.averaged_by(name)
    users = {dataset.experiments[configured(each)].residuals: each for each in (name, *members)}
    residuals = sorted(filter(None, users))  # which members share, and are made once
    seconds: list[Any] = [
        _residual_seconds(layout, dataset, each, users[each], *job)
        for each in residuals
        for job in tested
    ]
    numbers["residual_seconds"] = (
        len(residuals) * float(np.mean(seconds)) if seconds and None not in seconds else None
    )
    if isinstance(dataset.experiments[name], GivenPredictions):
        numbers["network_seconds"] = None  # they were made elsewhere
        return numbers
    jobs = [(each, *job) for each in (name, *members) for job in tested]
    predicted = (store_attributes(layout.prediction_store(*job)) or {} for job in jobs)
    spent: list[Any] = [attributes.get("seconds") for attributes in predicted]
    # a prediction may be deleted, or older than its record of seconds
    numbers["network_seconds"] = (
        None if None in spent else (1 + len(members)) * float(np.mean(spent))
    )
    return numbers


def _residual_seconds(
    layout: Layout, dataset: Dataset, residuals: str, training: str, subset: int, case: str
) -> float | None:
    """How long a case's maps took, by their store or by what a network has predicted with them.

    Raises:
        PipelineError: neither is there, though the maps are not given back.
    """
    predicted = store_attributes(layout.prediction_store(training, subset, case)) or {}
    if MAPS_SECONDS in predicted:
        return float(predicted[MAPS_SECONDS])
    instance = residual_instance(dataset, residuals, subset)
    path = layout.residual_store(instance, case)
    if not path.exists() and given_back_key(layout, instance, case):
        return None
    seconds: Any = open_store(path).attrs["seconds"]
    return float(seconds)


def _group(chosen: Table, labels: Sequence[str]) -> str:
    """The group of a row: the best figure of each group is bold."""
    return labels[chosen.headings.index(chosen.best_within)] if chosen.best_within else ""


def _best_of_groups(
    chosen: Table, key: str, measured: Mapping[str, Numbers]
) -> dict[str, tuple[BestTwo, BestTwo]]:
    """The best two of our figures and of the published ones, in each group of rows."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for row in chosen.rows:
        group = _group(chosen, row.labels)
        ours[group].append(measured[row.experiment][key])
        theirs[group].append(row.published.get(key))
    low = key in COSTS or COLUMNS[key].low_is_best
    return {group: (best_two(ours[group], low), best_two(theirs[group], low)) for group in ours}


def _cell(key: str, numbers: Numbers, best: BestTwo, dataset: Dataset) -> str:
    if key in COSTS:
        return _cost_cell(key, numbers[key])
    return score_cell(COLUMNS[key], numbers, dataset.evaluation, best)


def _cost_cell(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if key == "parameters":
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e9:.2f}" if key == "macs" else f"{value:.2f}"


def _published_cell(key: str, value: float | None, best: BestTwo) -> str:
    if value is None or key in COSTS:
        return _cost_cell(key, value)
    return emphasised(f"{value:.3f}", best)


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
        f"over patients, where one is defined. {RANKS}{within}."
    ]
    if published:
        notes.append(
            "Published figures are those printed in the publication, from its own data and runs; "
            "they are shown for comparison and enter nothing."
        )
    if "macs" in chosen.columns:
        macs = "MACs, multiplications with their additions, are of one slice and one pass of the"
        note = f"{macs} network, without the passes behind residual maps; all are counted."
        thop = " Published ones were counted by thop (docs/reference/complexity.md)."
        notes.append(note + thop * ("macs" in published))
    if {"residual_seconds", "network_seconds"} & set(chosen.columns):
        seconds = "Seconds a patient are those that the stores of residual maps and of predictions"
        notes.append(f"{seconds} record, reading included, of the machine that made them.")
    return notes
