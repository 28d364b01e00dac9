"""Tables of text: Markdown whose columns are aligned, so that a terminal shows them, too; and CSV.

Names come from users' files: in Markdown they are no markup, and in CSV no formula.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.storage.files import replacing, write

WIDTH = 79  # columns of an ordinary terminal, for what is no table, too
MARKUP = re.compile(r"[\\`*\[\]<>|&~]|(?<![^\W_])_|_(?![^\W_])")
# a spreadsheet computes what begins like this; an apostrophe of our own makes it text
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def escaped(text: str) -> str:
    """A name as Markdown that shows it as it is, on one line."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def cell(value: object) -> object:
    """A value for a CSV: text that is no number begins no formula; `text_of` takes that back."""
    if not isinstance(value, str) or not FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def text_of(written: str) -> str:
    """The text that `cell` wrote."""
    return written[1:] if written.startswith("'") and FORMULA.match(written) else written


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a column for each key of any; None and what a row lacks are `nan`."""
    rows = [{key: "nan" if value is None else value for key, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(cell, columns))
        writer.writerows([cell(row.get(key, "nan")) for key in columns] for row in rows)


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
    write_csv(numbers, table.numbers)
    write(page, markdown(title, table))


def markdown(title: str, table: TextTable) -> str:
    """A Markdown page: heading, aligned table, one paragraph per note."""
    named = table.names
    rows = [[*map(escaped, row[:named]), *row[named:]] for row in table.rows]
    grid = aligned([list(map(escaped, table.headings)), *rows])
    return "\n\n".join([f"# {escaped(title)}", grid, *table.notes]) + "\n"


@dataclass
class TextTable:
    """A table: headings, cells by row, the same as numbers, and the lines below it."""

    headings: list[str]  # plain text, as are the first `names` cells of a row; others may be bold
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: int = 1
