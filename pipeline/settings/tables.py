"""Tables of chosen experiments in a publication's layout, with its figures beside ours."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.settings.score_columns import COLUMNS
from pipeline.settings.section import Name, Number, Section

COSTS = ("parameters", "residual_seconds")
"""Columns that are not scores: network size, and seconds per patient for residual maps."""


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
            if column not in known:
                raise ValueError(f"columns: found {column!r}, expected any of {', '.join(known)}")
        if self.best_within is not None and self.best_within not in self.headings:
            raise ValueError(
                f"best_within: found {self.best_within!r}, expected one of the headings: "
                f"{', '.join(self.headings)}"
            )
        return self

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        for row in self.rows:
            if len(row.labels) != len(self.headings):
                raise ValueError(
                    f"row of {row.experiment!r}: found {len(row.labels)} labels, expected one for "
                    f"each of the {len(self.headings)} headings"
                )
            for column in row.published:
                if column not in self.columns:
                    raise ValueError(
                        f"row of {row.experiment!r}: published.{column} belongs to none of the "
                        f"columns: {', '.join(self.columns)}"
                    )
        return self
