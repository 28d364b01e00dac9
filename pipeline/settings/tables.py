"""Tables of chosen experiments in a publication's layout, with its figures beside ours."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.settings.score_columns import COLUMNS
from pipeline.settings.section import Name, Number, Section, require

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
