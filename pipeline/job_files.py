"""Which files a job reads and declares: the edges of the workflow, for the records of its results.

The workflow's rules name the same files; `tests/workflow/test_end_to_end.py` compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checkpoint_files import checkpoint_files
from pipeline.datasets import ListingError, list_cases
from pipeline.files import read_json
from pipeline.layout import Layout, in_batch, is_record
from pipeline.settings import Dataset
from pipeline.stores import store_attributes
from pipeline.targets import models_behind

Names = Mapping[str, str | int]
"""What a job is about beside its data set: `{"experiment": "grcsf", "subset": 1}`."""


def written_files(layout: Layout, stage: str, names: Names) -> list[Path]:
    """What a job writes beside its stores, models and masks, which the first of these lists."""
    first, *others = [str(name) for name in names.values()] or [""]
    match stage:
        case "ingest":
            return [layout.cases]
        case "split":
            return [layout.split]
        case "train_mae":
            return [layout.mae(first)]
        case "residual_maps":
            return [layout.residual_batch(first, others[0])]
        case "train_segmentation":
            return [layout.model(first, int(others[0]))]
        case "predict":
            return [layout.predictions(first, int(others[0]))]
        case "postprocess":
            return [layout.masks(first, int(others[0]))]
        case "evaluate":
            return [layout.scores(first), layout.summary(first)]
        case "compare":
            return [layout.table(suffix) for suffix in (".md", ".csv")]
        case "tabulate":
            return [layout.chosen_table(first, suffix) for suffix in (".md", ".csv")]
        case "report":
            return [layout.report, layout.report.with_name("example.png")]
    raise ValueError(f"no stage is called {stage!r}")


def read_files(layout: Layout, dataset: Dataset, stage: str, names: Names) -> list[Path]:
    """The results of earlier stages that a job reads, and an MAE's public checkpoint.

    What ingest reads, `raw_files` tells.
    """
    first = str(next(iter(names.values()), ""))
    subset = int(names.get("subset", 0))
    both = [layout.cases, layout.split]
    match stage:
        case "ingest":
            return []
        case "split":
            return [layout.cases]
        case "train_mae":
            given = dataset.mae[first].checkpoint
            return [*both, *(checkpoint_files(Path(given)) if given else [])]
        case "residual_maps":
            return [*both, *models_behind(layout, dataset, first)]
        case "train_segmentation":
            encoder = dataset.experiments[first].mae_encoder
            maes = [layout.mae(encoder.mae)] if encoder else []
            return [*both, *_residuals(layout, dataset, first), *maes]
        case "predict":
            model = layout.model(first, subset)
            return [*both, model, *_residuals(layout, dataset, first)]
        case "postprocess":
            return [layout.cases, layout.predictions(first, subset)]
        case "evaluate":
            return [*both, *_of_subsets(layout, dataset, first, ("predictions", "masks"))]
        case "compare":
            return _scores(layout, list(dataset.experiments))
        case "tabulate":
            rows = dataset.tables[first].rows
            return [*both, *_scores(layout, [row.experiment for row in rows])]
        case "report":
            tables = [layout.table(suffix) for suffix in (".md", ".csv")]
            subsets = [
                path
                for name in dataset.experiments
                for path in _of_subsets(layout, dataset, name, ("model", "masks"))
            ]
            return [*both, *tables, *_scores(layout, list(dataset.experiments)), *subsets]
    raise ValueError(f"no stage is called {stage!r}")


def raw_files(
    layout: Layout, dataset: Dataset, root: Path, further: Sequence[Path]
) -> dict[str, dict[Path, str]]:
    """The files of every ingested case with the SHA-256 that its store was made from."""
    try:
        listed = list_cases(dataset.source.adapter, root, further)
    except ListingError as error:
        listed = error.cases
    folders = {one.case: one.image.parent for one in listed}
    found = {}
    for case in read_json(layout.cases)["cases"]:
        attributes = store_attributes(layout.case_store(case)) or {}
        sources: Mapping[str, str] = attributes.get("sources", {})
        if case in folders:
            found[case] = {
                Path(os.path.normpath(folders[case] / name)): digest
                for name, digest in sources.items()
            }
    return found


def _residuals(layout: Layout, dataset: Dataset, experiment: str) -> list[Path]:
    """The newest manifests that together list the residual stores of all cases.

    Batches of another number leave their manifests behind.
    """
    name = dataset.experiments[experiment].residuals
    if name is None:
        return []
    folder = layout.residual_batch(name, "1of1").parent
    batches = [path for path in folder.glob("batch-*.json") if not is_record(path)]
    left, found = set(read_json(layout.cases)["cases"]), []
    for path in sorted(batches, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        batch = path.stem.removeprefix("batch-")
        due = {case for case in left if in_batch(case, batch)}
        if due:
            found.append(path)
            left -= due
    return sorted(found)


def _of_subsets(
    layout: Layout, dataset: Dataset, experiment: str, kinds: Sequence[str]
) -> list[Path]:
    return [
        getattr(layout, kind)(experiment, subset)
        for kind in kinds
        for subset in dataset.subsets_of(experiment)
    ]


def _scores(layout: Layout, experiments: Sequence[str]) -> list[Path]:
    return [
        path
        for name in dict.fromkeys(experiments)
        for path in (layout.scores(name), layout.summary(name))
    ]
