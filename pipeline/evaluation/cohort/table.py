"""The table of a cohort: a row for every scan, also for those that were set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from pipeline.storage.files import replacing

COLUMNS = {
    "case": pa.string(),
    "image": pa.string(),
    "group": pa.string(),
    "volume_ml": pa.float64(),
    "lesions": pa.int64(),
    "agatston": pa.float64(),
    "risk": pa.string(),
    "slices": pa.int64(),
    "spacing_z_mm": pa.float64(),
    "spacing_y_mm": pa.float64(),
    "spacing_x_mm": pa.float64(),
    "mask": pa.string(),
    "segmentation": pa.string(),
    "notes": pa.string(),
    "fault": pa.string(),
    "seconds": pa.float64(),
}
SCHEMA = pa.schema(list(COLUMNS.items()))


def cohort_table(
    measured: Iterable[Iterable[Mapping[str, Any]]], set_aside: Mapping[str, Iterable[str]]
) -> pa.Table:
    """The table of all scans, by name: the rows of each batch, and scans with their faults."""
    faulty = [{"case": case, "fault": "; ".join(told)} for case, told in set_aside.items()]
    parts = [pa.Table.from_pylist(list(rows), SCHEMA) for rows in (*measured, faulty)]
    return pa.concat_tables(parts).sort_by("case").combine_chunks()


def write_table(table: pa.Table, to_csv: Path, to_parquet: Path) -> None:
    """Write the same rows as CSV and as Parquet; what a row does not have is empty there."""
    with replacing(to_parquet) as temporary:
        parquet.write_table(table, temporary, compression="zstd")
    with replacing(to_csv) as temporary:
        csv.write_csv(table, temporary, csv.WriteOptions(quoting_style="needed"))


def usable(table: pa.Table) -> pa.Table:
    """The rows of scans that have a mask."""
    return table.filter(pc.is_valid(table["mask"]))
