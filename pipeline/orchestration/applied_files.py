"""Which files the jobs of an applied model read and declare, in place of those of trainings."""

from __future__ import annotations

from pathlib import Path

from pipeline.prediction.inputs import weights_manifest
from pipeline.settings import Dataset
from pipeline.settings.apply.cohort import cohort_result
from pipeline.settings.instances import instances_of
from pipeline.storage.batches import Batches, Parts, batches_in, may_share, name_of
from pipeline.storage.layout import Layout


def unpacked_models(layout: Layout, chosen: Dataset) -> list[Path]:
    """Manifests of the trained models that an applied bundle brings; of other data sets none."""
    weights = chosen.bundle.weights.values() if chosen.bundle else ()
    return [weights_manifest(layout, each) for each in weights]


def cases_read(layout: Layout, chosen: Dataset, batch: str) -> list[Path]:
    """What says which cases a job works on.

    Where a model is applied, what ingest has in a batch's own batches: scans of others that come
    or go leave true what the batch has made.
    """
    ingested = batches_in(layout.stage("ingest")) if chosen.bundle and batch else []
    own = [path for path in ingested if may_share(batch, name_of(path))]
    return own or [layout.cases, layout.split]


def measured_files(layout: Layout, chosen: Dataset, parts: Parts) -> list[Path]:
    """What the masks of an applied model are measured from; `parts` as of a batch of them."""
    return [layout.cases, layout.unpacked, *parts(layout.masks(*cohort_result(chosen)))]


def cohort_files(layout: Layout) -> list[Path]:
    """The table and the page of a cohort."""
    tables = [layout.cohort_table(suffix) for suffix in (".csv", ".parquet")]
    return [*tables, layout.cohort_page]


def applied_results(layout: Layout, chosen: Dataset, batches: Batches) -> list[Path]:
    """Table and page of a cohort, and every manifest on the way to them."""
    bundle, result = chosen.bundle, cohort_result(chosen)
    assert bundle is not None
    used = {instances_of(chosen, *member).residuals: None for member in bundle.members}
    names = batches.residual_maps
    maps = (layout.residual_batch(name, batch) for name in used if name for batch in names)
    predicted = [layout.predictions(*each) for each in dict.fromkeys([*bundle.members, result])]
    ways = [*batches.ingested(layout), layout.cases, layout.split]
    ways += [layout.unpacked, *unpacked_models(layout, chosen), *maps]
    ways += [part for each in (*predicted, layout.masks(*result)) for part in batches.parts(each)]
    return [*ways, *map(layout.measures, batches.predict), *cohort_files(layout)]
