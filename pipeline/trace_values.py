"""A number in a table, and the patients' numbers that it comes from."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.columns import COLUMNS
from pipeline.errors import PipelineError
from pipeline.lineage import Chain

TABLES = ("compare", "tabulate")


@dataclass(frozen=True)
class Value:
    """A metric of one experiment.

    Attributes:
        experiment: whose.
        metric: its column in the table.
        shown: the number in the table that was asked about; None where it is one of patients.
        column: its column in the patients' table.
        patients: case → number, as `evaluate` wrote it.
        pooled: whether the table's number comes from the patients' counts, not from their numbers.
    """

    experiment: str
    metric: str
    shown: str | None
    column: str
    patients: dict[str, str]
    pooled: bool


def values(chain: Chain, metric: str) -> list[Value]:
    """The metric of every experiment that the chain follows.

    Raises:
        PipelineError: no such metric, or no such case.
    """
    first, *_ = chain.steps.values()
    table = None
    if first.content["stage"] in TABLES:
        table = (chain.root / first.content["written"]).with_suffix(".csv")
    scored = [step for step in chain.steps.values() if step.content["stage"] == "evaluate"]
    if not scored:
        raise PipelineError(f"--metric: found {metric!r}, but the file holds no scores")
    return [
        _value(chain, metric, table, str(step.content["names"]["experiment"]), step.content)
        for step in scored
    ]


def lines(found: Sequence[Value], case: str) -> Iterator[str]:
    """The numbers as text: the table's, then the patients'."""
    for one in found:
        count = len(one.patients)
        how = "from the counts of" if one.pooled else "over"
        head = f"{one.metric} of {one.experiment}"
        if one.shown is not None:
            yield f"{head} = {one.shown}, {how} {count} patients, whose {one.column} is"
        else:
            yield f"{head} of {count} patients:"
        for name, number in one.patients.items():
            if case in ("", name):
                yield f"  {name} {number}"
    yield ""


def _value(
    chain: Chain, metric: str, table: Path | None, experiment: str, content: object
) -> Value:
    column = COLUMNS.get(metric)
    name = column.patient if column is not None and table is not None else metric
    path = chain.root / str(content["written"])  # type: ignore[index]
    patients = {row["case"]: row[name] for row in _rows(path, name)}
    if chain.case and chain.case not in patients:
        raise PipelineError(f"--case: {path} has no row of {chain.case!r}")
    shown = None
    if table is not None:
        rows = [row for row in _rows(table, metric) if row["experiment"] == experiment]
        shown = rows[0][metric] if rows else None
    pooled = column is not None and column.where[0] != "scores"
    return Value(experiment, metric, shown, name, patients, pooled)


def _rows(path: Path, column: str) -> list[dict[str, str]]:
    """The rows of a CSV that has this column.

    Raises:
        PipelineError: it has not.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise PipelineError(f"{path}: not there; run its stage again") from None
    known = list(rows[0]) if rows else []
    if column not in known:
        raise PipelineError(f"--metric: {path} has no {column!r}; it has: {', '.join(known)}")
    return rows
