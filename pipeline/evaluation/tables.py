"""Tables of text: Markdown whose columns are aligned, so that a terminal shows them, too."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.storage.files import replacing, write

WIDTH = 79  # columns of an ordinary terminal, for what is no table, too


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and its rows; all columns but the first are numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in [rows[0], rule, *rows[1:]]
    ]
    return "\n".join(f"| {line} |" for line in lines)


def write_table(table: TextTable, title: str, page: Path, numbers: Path) -> None:
    """Write a table as a Markdown page and its numbers, in full, as CSV."""
    with replacing(numbers) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        columns = list(dict.fromkeys(key for row in table.numbers for key in row))
        writer = csv.DictWriter(file, columns, restval="nan")
        writer.writeheader()
        for row in table.numbers:
            writer.writerow({key: "nan" if value is None else value for key, value in row.items()})
    write(page, markdown(title, table))


def markdown(title: str, table: TextTable) -> str:
    """A Markdown page: heading, aligned table, one paragraph per note."""
    rows = aligned([table.headings, *table.rows])
    return "\n\n".join([f"# {title}", rows, *table.notes]) + "\n"


@dataclass
class TextTable:
    """A table: headings, cells by row, the same as numbers, and the lines below it."""

    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
