"""Stage `compare`: all experiments of a data set in one table, Markdown and CSV."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.comparison import Comparison, build_comparison
from pipeline.files import replacing
from pipeline.layout import Layout
from pipeline.settings import Evaluation

VERSION = 2
log = logging.getLogger(__name__)


def compare(
    layout: Layout,
    experiments: Sequence[str],
    subsets: Sequence[int],
    evaluation: Evaluation,
    seed: int,
) -> None:
    """Write the table in the shape of the paper's Table 1, or for calcium of its Table 2.

    Raises:
        PipelineError: an experiment has not been evaluated, or on other patients.
    """
    table = build_comparison(layout, experiments, subsets, evaluation, seed)
    write_table(table, layout.dataset, layout.table(".md"), layout.table(".csv"))
    log.info("comparison: %s", layout.table(".md"))


def write_table(table: Comparison, title: str, page: Path, numbers: Path) -> None:
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
    with replacing(page) as temporary:
        temporary.write_text(markdown(title, table), "utf-8")


def markdown(title: str, table: Comparison) -> str:
    """A Markdown page: heading, aligned table, one paragraph per note."""
    lines = [table.headings, *table.rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    rows = [_row(table.headings, widths), _row(rule, widths)]
    rows += [_row(line, widths) for line in table.rows]
    return "\n\n".join([f"# {title}", "\n".join(rows), *table.notes]) + "\n"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join(padded)} |"
