"""Which scans of a cohort to look at first: the largest, the fullest, the empty, the slowest."""

from __future__ import annotations

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
    known = measured.select(["case", *dict.fromkeys(column for _, column, _ in CHOICES)])
    marked = known.filter(pc.field("lesions") > 0)
    empty = known.filter(pc.field("lesions") == 0)
    found: dict[str, list[str]] = {}
    for why, column, order in CHOICES:
        for case in _first(known if column == "seconds" else marked, column, order):
            found.setdefault(case, []).append(why)
    for case in _first(empty, "lesions", "ascending"):
        found.setdefault(case, []).append(EMPTY)
    return found


def _first(rows: pa.Table, column: str, order: str) -> list[str]:
    """The scans that come first by a column, which some may lack."""
    rows = rows.filter(pc.is_valid(rows[column]))
    if not len(rows):
        return []
    keys = [(column, order), ("case", "ascending")]
    cases: list[str] = rows["case"].take(pc.select_k_unstable(rows, OF_EACH, keys)).to_pylist()
    return cases
