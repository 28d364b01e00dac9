"""The columns of the comparison, and tables of chosen experiments beside published figures.

The columns are those of the paper's Table 1, or of Table 2 for calcium.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.settings.section import Name, Number, Section, require


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    key: str  # name in the CSV
    title: str
    patient: str  # the per-patient column of the same score, which the paired test compares
    where: tuple[str, ...]  # path of keys to its value in a summary
    low_is_best: bool = False  # as for errors
    digits: int = 2  # decimals of a confidence interval's ends


def _mean(key: str, title: str, **more: Any) -> Column:
    return Column(key, title, key, ("scores", key), **more)


def _pooled(name: str, title: str, **more: Any) -> Column:
    return Column(f"pooled_{name}", title, name, ("calcium", "pooled", name), **more)


def _before(name: str, title: str, patient: str, **more: Any) -> Column:
    return Column(f"before_{name}", title, patient, ("calcium", "pooled_raw", name), **more)


DICE = _mean("dice", "Dice")
TABLE_1 = (
    DICE,
    _mean("iou", "IoU"),
    _mean("precision", "Precision"),
    _mean("recall", "Recall"),
    _mean("voe", "VOE", low_is_best=True),
    _mean("fpr_percent", "FPR (%)", low_is_best=True, digits=3),
)
TABLE_2 = (
    _pooled("f1_volume", "F1 vol"),
    _pooled("sensitivity_volume", "Sens vol"),
    _pooled("ppv_volume", "PPV vol"),
    _pooled("sensitivity_lesions", "Sens lesion"),
    _pooled("ppv_lesions", "PPV lesion"),
    _pooled("voe_volume", "VOE", low_is_best=True),
    _before("f1", "F1, before", "raw_dice"),
    _before("sensitivity", "Sens, before", "raw_recall"),
    _before("ppv", "PPV, before", "raw_precision"),
    _before("voe", "VOE, before", "raw_voe", low_is_best=True),
    DICE,
)
COLUMNS = {column.key: column for column in (*TABLE_1, *TABLE_2)}
COSTS = ("parameters", "macs", "residual_seconds", "network_seconds")
"""Of a network, and of a patient: those for residual maps, and those for its prediction."""


class TableRow(Section):
    """One experiment: the labels before its figures, and the published figures."""

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    experiment: Name
    published: Annotated[dict[str, Number], Field(default_factory=dict)]


class Table(Section):
    """One table: which experiments are its rows, and which figures are its columns."""

    title: str
    headings: Annotated[tuple[str, ...], Field(min_length=1)]
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    rows: Annotated[tuple[TableRow, ...], Field(min_length=1)]
    best_within: str | None = None

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        known = (*COLUMNS, *COSTS)
        for column in self.columns:
            message = f"columns: found {column!r}, expected any of {', '.join(known)}"
            require(column in known, message)
        headings = f"one of the headings: {', '.join(self.headings)}"
        is_heading = self.best_within is None or self.best_within in self.headings
        require(is_heading, f"best_within: found {self.best_within!r}, expected {headings}")
        return self

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        columns, wanted = ", ".join(self.columns), len(self.headings)
        for row in self.rows:
            key, found = f"row of {row.experiment!r}", len(row.labels)
            expected = f"expected one for each of the {wanted} headings"
            require(found == wanted, f"{key}: found {found} labels, {expected}")
            for column in row.published:
                message = f"published.{column} belongs to none of the columns: {columns}"
                require(column in self.columns, f"{key}: {message}")
        return self


def table_experiments(table: Table) -> list[str]:
    """The experiments in a table's rows, each once."""
    return list(dict.fromkeys(row.experiment for row in table.rows))
