"""Stage `summarise`: the table of an applied model's cohort, a row for every scan, and its page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from pipeline.evaluation.cohort.page import cohort_page
from pipeline.evaluation.cohort.table import cohort_table, write_table
from pipeline.settings import Dataset
from pipeline.storage.files import read_json, write
from pipeline.storage.layout import Layout

VERSION = 1
log = logging.getLogger(__name__)


def summarise(layout: Layout, dataset: Dataset, batches: int, model: str) -> None:
    """Write the table of all scans, as CSV and Parquet, and their page.

    `batches` is the number of batches that stage `measure` had, `model` the bundle's path.

    Raises:
        PipelineError: a manifest, a store or a mask is missing or damaged.
    """
    table = cohort_table(_rows(layout, batches), read_json(layout.cases)["set_aside"])
    page = cohort_page(layout, dataset, table, model)
    write(layout.cohort_page, page)
    write_table(table, layout.cohort_table(".csv"), layout.cohort_table(".parquet"))
    log.info("%d scans: %s", len(table), layout.cohort_table(".csv"))


def _rows(layout: Layout, batches: int) -> Iterator[Iterator[dict[str, Any]]]:
    """The rows of each batch, one batch at a time."""
    for number in range(1, batches + 1):
        cases = read_json(layout.measures(f"{number}of{batches}"))["cases"]
        yield (case["row"] for case in cases.values())
