"""Stage `compare`: all experiments of a data set in one table, Markdown and CSV."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.evaluation.comparison import build_comparison
from pipeline.evaluation.tables import write_table
from pipeline.settings import Evaluation
from pipeline.storage.layout import Layout

VERSION = 3
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
