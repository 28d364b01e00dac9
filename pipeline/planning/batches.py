"""Into how many batches each stage divides a data set's cases.

A data set with at most `resources.cases_per_job` cases has one job each.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.datasets import CaseFiles
from pipeline.datasets.subsets import split_cases
from pipeline.errors import PipelineError
from pipeline.planning.sizes import predictable
from pipeline.settings import HEALTHY, Dataset, external_set
from pipeline.storage.batches import Batches, batch_names
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout


def planned_batches(
    layout: Layout, dataset: Dataset, cases: Sequence[CaseFiles], seed: int, cases_per_job: int
) -> Batches:
    """The batches of every stage, for the cases that are listed now."""
    mapped = len(predictable(cases))
    return Batches(
        ingest=batch_names(len(cases), cases_per_job),
        residual_maps=batch_names(mapped, cases_per_job),
        predict=batch_names(most_predicted(dataset, cases, seed), cases_per_job),
        grown=len(cases) - _ingested_before(layout) >= cases_per_job,
    )


def most_predicted(dataset: Dataset, cases: Sequence[CaseFiles], seed: int) -> int:
    """How many cases that subset predicts of all which predicts most."""
    given = [case for case in cases if case.label is not None]
    own = [case for case in given if not external_set(case.role)]
    labelled = {case.case: {"group": case.group, "role": case.role} for case in own}
    subsets = split_cases(labelled, dataset.split, seed) if labelled else []
    tested = max((len(roles["test"]) for roles in subsets), default=0)
    without = sum(case.label is None and case.role != HEALTHY for case in cases)
    return tested + len(given) - len(own) + without


def _ingested_before(layout: Layout) -> int:
    """The number of cases that ingest has stored or set aside; 0 where nothing can be read."""
    try:
        manifest = read_json(layout.cases)
        return len(manifest["cases"]) + len(manifest.get("set_aside", {}))
    except (PipelineError, OSError):
        return 0
