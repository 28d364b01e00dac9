"""Text for a terminal: tables that are Markdown and aligned, too, and lines that are wrapped."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.storage.files import replacing, write


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
    with (
        replacing(numbers) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        columns = list(dict.fromkeys(key for row in table.numbers for key in row))
        writer = csv.DictWriter(file, columns, restval="nan")
        writer.writeheader()
        for row in table.numbers:
            writer.writerow({key: "nan" if value is None else value for key, value in row.items()})
    write(page, markdown(title, table))


def markdown(title: str, table: TextTable) -> str:
    """A Markdown page: heading, aligned table, one paragraph per note."""
    lines = [table.headings, *table.rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    rows = [_row(table.headings, widths), _row(rule, widths)]
    rows += [_row(line, widths) for line in table.rows]
    return "\n\n".join([f"# {title}", "\n".join(rows), *table.notes]) + "\n"


@dataclass
class TextTable:
    """A table: headings, cells by row, the same as numbers, and the lines below it."""

    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join(padded)} |"
