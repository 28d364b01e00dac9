"""Which scans of a cohort to look at first: the largest, the fullest, the empty, the slowest."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

OF_EACH = 3  # scans
# why a scan is looked at, by which column it is chosen, and from which end
CHOICES = (
    ("largest volume", "volume_ml", "descending"),
    ("most lesions", "lesions", "descending"),
    ("highest Agatston score", "agatston", "descending"),
    ("smallest volume", "volume_ml", "ascending"),
    ("slowest", "seconds", "descending"),
)
EMPTY = "nothing found"


def extremes(measured: pa.Table) -> dict[str, list[str]]:
    """Scans to look at, each with why; at most `OF_EACH` for a reason, ties by name."""
    marked = measured.filter(pc.field("lesions") > 0)
    empty = measured.filter(pc.field("lesions") == 0)
    chosen: dict[str, list[str]] = {}
    for why, column, order in CHOICES:
        rows = measured if column == "seconds" else marked
        rows = rows.filter(pc.is_valid(rows[column]))
        _note(chosen, why, rows.sort_by([(column, order), ("case", "ascending")]), column)
    _note(chosen, EMPTY, empty, "lesions")
    return chosen


def _note(chosen: dict[str, list[str]], why: str, rows: pa.Table, column: str) -> None:
    cases: Sequence[str] = rows["case"][:OF_EACH].to_pylist()
    for case in cases if column in rows.column_names else ():
        chosen.setdefault(case, []).append(why)
