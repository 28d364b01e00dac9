"""A number in a table, and the patients' numbers that it comes from."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.settings.score_columns import COLUMNS
from pipeline.storage.layout import Layout
from pipeline.tools.trace.lineage import Chain, Step
from pipeline.tools.trace.text import wrapped

TABLES = ("compare", "tabulate")
OF_THE_SCORED = (*TABLES, "evaluate")
Row = dict[str, str]  # of a CSV


@dataclass(frozen=True)
class Value:
    """A metric of one experiment.

    Attributes:
        experiment: whose.
        metric: its column in the table.
        shown: the number in the table that was asked about; None where it is one of patients.
        column: its column in the patients' table.
        patients: case → number, as `evaluate` wrote it, of the patients behind the table's number.
        subsets: case → subset of the split whose network predicted it.
        undefined: how many of the patients have no number.
        pooled: whether the table's number comes from the patients' counts, not from their numbers.
    """

    experiment: str
    metric: str
    shown: str | None
    column: str
    patients: dict[str, str]
    subsets: dict[str, int]
    undefined: int
    pooled: bool


def values(chain: Chain, metric: str) -> list[Value]:
    """The metric of every experiment that the chain follows.

    Raises:
        PipelineError: no such metric, or no such case.
    """
    table = None
    if chain.first.content["stage"] in TABLES:
        table = (chain.root / chain.first.content["written"]).with_suffix(".csv")
    scored = _scored(chain)
    if not scored:
        raise PipelineError(f"--metric: found {metric!r}, but the file holds no scores")
    subsets = _subsets(chain)
    return [_value(chain, metric, table, step, subsets) for step in scored]


def leaves_out(chain: Chain, case: str) -> bool:
    """Whether a case has no part in a table's or a report's numbers, as far as the scores tell."""
    stage = str(chain.first.content["stage"])
    if stage not in (*OF_THE_SCORED, "report"):
        return False
    files = [_scores(chain, step) for step in _scored(chain)]
    rows = [row for path in files if path.is_file() for row in _rows(path)]
    mine = {int(row["subset"]) for row in rows if row["case"] == case}
    if rows and not mine:
        return stage != "report"  # which shows the unlabelled, too
    subsets = _subsets(chain)
    return bool(rows) and subsets is not None and not mine & subsets


def lines(found: Sequence[Value], case: str) -> Iterator[str]:
    """The numbers as text: the table's, then the patients'."""
    for one in found:
        yield from wrapped(_head(one), 0)
        several = len(set(one.subsets.values())) > 1
        for name, number in one.patients.items():
            if case in ("", name):
                of = f" (subset {one.subsets[name]})" if several else ""
                yield f"  {name} {number}{of}"
    yield ""


def _head(one: Value) -> list[str]:
    head, count = f"{one.metric} of {one.experiment}", len(one.patients)
    undefined = [f"({one.undefined} undefined)"] if one.undefined else []
    if one.shown is None:
        return [" ".join([f"{head} of {count} patients", *undefined]) + ":"]
    shown = [f"{head} = {'undefined' if one.shown == 'nan' else one.shown},"]
    if one.pooled:  # a patient whose own number is undefined counts all the same
        return [
            *shown,
            f"from the counts of {count} patients,",
            f"whose {one.column} is",
            *undefined,
        ]
    several = len(set(one.subsets.values())) > 1
    how = ["mean of the subsets' means,"] if several else []
    over = " ".join([f"over {count} patients", *undefined])
    return [*shown, *how, f"{over},", f"whose {one.column} is"]


def _value(
    chain: Chain, metric: str, table: Path | None, step: Step, subsets: set[int] | None
) -> Value:
    experiment, path = str(step.content["names"]["experiment"]), _scores(chain, step)
    shown = None if table is None else _shown(table, metric, experiment)
    column = COLUMNS.get(metric)
    name = column.patient if column is not None and table is not None else metric
    rows = [row for row in _rows(path, name) if subsets is None or int(row["subset"]) in subsets]
    if chain.case and all(row["case"] != chain.case for row in rows):
        raise PipelineError(f"--case: {path} has no row of {chain.case!r}")
    if shown is not None and shown.get("patients", str(len(rows))) != str(len(rows)):
        raise PipelineError(
            f"--metric: {path} has {len(rows)} patients of the table's subsets, expected the "
            f"{shown['patients']} of {table}; scored anew since: run "
            f"{chain.first.content['stage']} again"
        )
    return Value(
        experiment,
        metric,
        None if shown is None else shown[metric],
        name,
        patients={row["case"]: row[name] for row in rows},
        subsets={row["case"]: int(row["subset"]) for row in rows},
        undefined=sum(row[name] == "nan" for row in rows),
        pooled=column is not None and column.where[0] != "scores",
    )


def _shown(table: Path, metric: str, experiment: str) -> Row:
    """The table's row of an experiment.

    Raises:
        PipelineError: the metric is no column of it that comes from patients' numbers.
    """
    rows = _read(table)
    known = [key for key in COLUMNS if rows and key in rows[0]]
    if metric not in known:
        raise PipelineError(
            f"--metric: found {metric!r}, expected a score of {table} that patients have: "
            f"{', '.join(known)}"
        )
    for row in rows:
        if row.get("experiment") == experiment:
            return row
    raise PipelineError(f"--metric: {table} has no row of experiment {experiment!r}")


def _scored(chain: Chain) -> list[Step]:
    return [step for step in chain.steps.values() if step.content["stage"] == "evaluate"]


def _scores(chain: Chain, step: Step) -> Path:
    return chain.root / str(step.content["written"])


def _subsets(chain: Chain) -> set[int] | None:
    """The subsets whose patients a table or a report counts; None of scores, which are of all.

    Those that the experiments of all its rows share, also of rows that the chain does not follow.
    """
    first = chain.first.content
    if first["stage"] == "tabulate":
        layout = Layout(chain.root, first["dataset"])
        rows = chain.first.made[1]["settings"]["table"]["rows"]
        files = [layout.scores(row["experiment"]) for row in rows]
        found = [{int(row["subset"]) for row in _rows(path)} for path in files if path.is_file()]
        return set.intersection(*found) if found else None
    # a report has the numbers of the comparison
    tables = [step for step in chain.steps.values() if step.content["stage"] == "compare"]
    return set(tables[0].made[1]["settings"]["subsets"]) if tables else None


def _rows(path: Path, column: str = "case") -> list[Row]:
    """The patients' rows of a table that `evaluate` wrote.

    Raises:
        PipelineError: it is not there, has no such column, or is none of patients.
    """
    rows = _read(path)
    known = list(rows[0]) if rows else []
    if not {"case", "subset"} <= set(known) or not all(row["subset"].isdigit() for row in rows):
        raise PipelineError(
            f"{path}: damaged, expected a row a patient with case and subset; run evaluate again"
        )
    if column not in known:
        raise PipelineError(f"--metric: {path} has no {column!r}; it has: {', '.join(known)}")
    return rows


def _read(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, restval=""))
    except FileNotFoundError:
        raise PipelineError(f"{path}: not there; run its stage again") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{path}: damaged ({error}); run its stage again") from error
