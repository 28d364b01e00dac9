"""Which files a job reads and declares, and all results of a configuration.

The workflow's rules name the same files; `tests/workflow/test_end_to_end.py` compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from pipeline.evaluation.figures.contents import figures_of, sets_shown
from pipeline.orchestration.applied_files import (
    applied_results,
    cases_read,
    cohort_files,
    measured_files,
    unpacked_models,
)
from pipeline.prediction.inputs import prediction_inputs
from pipeline.settings import (
    HEALTHY,
    Dataset,
    GradCam,
    Untrained,
    configured,
)
from pipeline.settings.instances import (
    instances_of,
    mae_instances,
    maes_behind,
    residual_instance,
    residual_instances,
    subsets_served,
)
from pipeline.settings.paths import checkpoint_files, pretrained_files
from pipeline.settings.tables import table_experiments
from pipeline.settings.untrained import with_sources
from pipeline.storage.batches import (
    ALL,
    Batches,
    Parts,
    batch_part,
    batches_in,
    in_batch,
    parts_of,
)
from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of, is_record
from pipeline.storage.layout import STAGES, Layout

Names = Mapping[str, str | int]
"""A job's names beside its data set: `{"experiment": "grcsf", "subset": 1}`."""


def written_files(layout: Layout, stage: str, names: Names) -> list[Path]:
    """The files that a job declares; the first lists its stores, models or masks."""
    first, *others = [str(name) for name in names.values()] or [""]
    files: dict[str, Callable[[], list[Path]]] = {
        "ingest": lambda: [layout.ingest_batch(first) if first else layout.cases],
        "split": lambda: [layout.split],
        "unpack": lambda: [layout.unpacked],
        "train_mae": lambda: [layout.mae(first)],
        "residual_maps": lambda: [layout.residual_batch(first, others[0])],
        "train_segmentation": lambda: [layout.model(first, int(others[0]))],
        "predict": lambda: [layout.predictions(first, batch_part(*others))],
        "postprocess": lambda: [layout.masks(first, batch_part(*others))],
        "evaluate": lambda: _scores(layout, [batch_part(first, *others)]),
        "compare": lambda: _tables(layout.table),
        "tabulate": lambda: _tables(partial(layout.chosen_table, first)),
        "draw": lambda: _figure(layout, first),
        "report": lambda: [layout.report],
        "measure": lambda: [layout.measures(first)] if first else cohort_files(layout),
    }
    if stage not in files:
        raise ValueError(f"no stage is called {stage!r}")
    return files[stage]()


def read_files(layout: Layout, dataset: Dataset, stage: str, names: Names) -> list[Path]:
    """The results that a job reads, and public weights; for ingest, see `raw_files`."""
    first = str(next(iter(names.values()), ""))
    subset, batch = int(names.get("subset", 0)), str(names.get("batch", ALL))
    both = cases_read(layout, dataset, batch)
    cut = [path for path in both if path != layout.split]
    parts = partial(_parts_there, batch=batch)
    match stage:
        case "ingest":
            return [] if batch else batches_in(layout.stage("ingest"))
        case "unpack":  # which reads what no stage has made
            return []
        case "split":
            return [layout.cases]
        case "train_mae":
            given = dataset.mae[configured(first)].checkpoint
            return [*both, *(checkpoint_files(Path(given)) if given else [])]
        case "residual_maps":
            return [*both, *models_behind(layout, dataset, first)]
        case "train_segmentation":
            used = instances_of(dataset, first, subset)
            maes = [layout.mae(used.mae)] if used.mae else []
            start = pretrained_weights(dataset, configured(first))
            return [*both, *_residuals(layout, used.residuals), *maes, *start]
        case "predict":
            if isinstance(dataset.experiments[configured(first)], Untrained):
                return [*both, *prediction_inputs(layout, dataset, first, subset, parts)]
            residuals = instances_of(dataset, first, subset).residuals
            return [*both, layout.model(first, subset), *_residuals(layout, residuals, batch)]
        case "postprocess":
            return [*cut, layout.predictions(first, batch_part(subset, batch))]
        case "evaluate":
            made = _of_subsets(dataset, [first], layout.predictions, layout.masks)
            scored = [] if batch else batches_in(folder_of(layout.summary(first)))
            tables = [path.with_suffix(".csv") for path in scored]
            return [*both, *_divided(made, parts), *tables, *scored]
        case "compare":
            return _scores(layout, dataset.experiments)
        case "tabulate":
            rows = dataset.tables[first].rows
            return [*both, *_scores(layout, [row.experiment for row in rows])]
        case "draw":
            maps = (_residuals(layout, name) for name in figure_residuals(dataset, first))
            return [*figure_inputs(layout, dataset, first, parts), *chain.from_iterable(maps)]
        case "report":
            # curves and pictures are of the first repeat
            models = _of_first_repeats(dataset, dataset.networks, layout.model)
            masks = _of_first_repeats(dataset, dataset.experiments, layout.masks)
            scores = _scores(layout, dataset.experiments)
            return [*both, *_tables(layout.table), *scores, *models, *_divided(masks, parts)]
        case "measure":
            if batch:
                measured = measured_files(layout, dataset, parts)
                return [*cut, *(path for path in measured if path != layout.cases)]
            return [layout.cases, *batches_in(layout.stage("measure"))]
    raise ValueError(f"no stage is called {stage!r}")


def pretrained_weights(dataset: Dataset, experiment: str) -> list[Path]:
    """The files of weights that an experiment's trainings start from."""
    chosen = dataset.trained(experiment, "to train it")
    key = f"experiments.{experiment}.pretrained"
    return pretrained_files(chosen.model, chosen.pretrained or (), key)


def _residuals(layout: Layout, name: str | None, wanted: str = ALL) -> list[Path]:
    """The newest manifests that list all residual stores, or those of the `wanted` batch.

    Batches of another number leave some behind.
    """
    if name is None:
        return []
    folder = layout.residual_batch(name, "1of1").parent
    batches = [path for path in folder.glob("batch-*.json") if not is_record(path)]
    cases = read_json(layout.cases)["cases"]
    seen = {name for name, case in cases.items() if case["role"] != HEALTHY}
    left, newest = {name for name in seen if in_batch(name, wanted)}, []
    for path in sorted(batches, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        batch = path.stem.removeprefix("batch-")
        if listed := {case for case in left if in_batch(case, batch)}:
            newest.append(path)
            left -= listed
    return sorted(newest)


def _of_subsets(
    dataset: Dataset, experiments: Iterable[str], *paths: Callable[[str, int], Path]
) -> list[Path]:
    jobs = [
        (training, subset)
        for name in experiments
        for training in dataset.trainings_of(name)
        for subset in dataset.subsets_of(name)
    ]
    return [path(*job) for path in paths for job in jobs]


def _of_first_repeats(
    dataset: Dataset, experiments: Iterable[str], path: Callable[[str, int], Path]
) -> list[Path]:
    return [path(name, number) for name in experiments for number in dataset.subsets_of(name)]


def _parts_there(manifest: Path, batch: str) -> list[Path]:
    return parts_of(manifest, batch) or [manifest]


def _divided(manifests: Iterable[Path], parts: Parts) -> list[Path]:
    return [part for manifest in manifests for part in parts(manifest)]


def _scores(layout: Layout, experiments: Iterable[str]) -> list[Path]:
    names = dict.fromkeys(experiments)
    return [path for name in names for path in (layout.scores(name), layout.summary(name))]


def _figure(layout: Layout, name: str) -> list[Path]:
    return [layout.figure(name, suffix) for suffix in (".md", ".svg", ".pdf", ".png")]


def _tables(path: Callable[[str], Path]) -> list[Path]:
    return [path(suffix) for suffix in (".md", ".csv")]


def models_behind(layout: Layout, chosen: Dataset, residuals: str) -> list[Path]:
    """Manifests of the models that make a residual set: MAEs, or the networks of Grad-CAM.

    Of a residual set that each fold has its own of, those of the instance that is named.
    """
    settings = chosen.residuals[configured(residuals)]
    if isinstance(settings, GradCam):
        subsets = subsets_served(chosen, residuals)
        return [layout.model(settings.grad_cam, subset) for subset in subsets]
    maes = {part.mae: chosen.mae[part.mae] for part in settings.maps}
    return [layout.mae(mae) for mae in sorted(maes_behind(residuals, maes).values())]


def _ways(
    layout: Layout, chosen: Dataset, experiments: Sequence[str], batches: Batches
) -> list[Path]:
    """The experiments' scores and every manifest on the way to them."""
    parts = batches.parts
    predicting = with_sources(chosen.experiments, experiments)
    networks = [name for name in predicting if name in chosen.networks]
    residuals = residual_instances(chosen, predicting)
    models = {path for name in residuals for path in models_behind(layout, chosen, name)}
    models |= {layout.mae(name) for name in mae_instances(chosen, predicting)}
    paths = [
        *batches.ingested(layout),
        layout.cases,
        layout.split,
        *sorted(models),
        *(layout.residual_batch(name, n) for name in residuals for n in batches.residual_maps),
        *_of_subsets(chosen, networks, layout.model),
        *_divided(_of_subsets(chosen, predicting, layout.predictions, layout.masks), parts),
        *_divided(map(layout.summary, experiments), parts),
        *_scores(layout, experiments),
    ]
    return list(dict.fromkeys(paths))


def _chosen_tables(layout: Layout, chosen: Dataset) -> list[Path]:
    return [path for name in chosen.tables for path in _tables(partial(layout.chosen_table, name))]


def all_results(layout: Layout, chosen: Dataset, batches: Batches) -> list[Path]:
    """The report, every table, and every manifest on the way to them, each once.

    Where a trained model is applied, its table and page.
    """
    if chosen.bundle:
        return list(dict.fromkeys(applied_results(layout, chosen, batches)))
    ways = _ways(layout, chosen, list(chosen.experiments), batches)
    return [*ways, *_chosen_tables(layout, chosen), *_tables(layout.table), layout.report]


def table_results(layout: Layout, chosen: Dataset, batches: Batches) -> list[Path]:
    """Every table of chosen experiments, and every manifest on the way to it; none without one."""
    rows = [name for table in chosen.tables.values() for name in table_experiments(table)]
    ways = _ways(layout, chosen, list(dict.fromkeys(rows)), batches) if rows else []
    return [*ways, *_chosen_tables(layout, chosen)]


def figure_results(layout: Layout, chosen: Dataset, batches: Batches) -> list[Path]:
    """Every figure that the data set has, and every manifest on the way to it."""
    ways = _ways(layout, chosen, list(chosen.experiments), batches)
    return [*ways, *(path for name in figures_of(chosen) for path in _figure(layout, name))]


def figure_inputs(layout: Layout, chosen: Dataset, figure: str, parts: Parts) -> list[Path]:
    """What a figure is drawn from, but for residual stores; pictures are of first repeats."""
    drawn = [layout.cases, layout.split, *_scores(layout, chosen.experiments)]
    if figure == "lesion-size":
        return drawn
    drawn += _divided(_of_first_repeats(chosen, chosen.experiments, layout.masks), parts)
    if figure == "methods":
        predicted = _of_first_repeats(chosen, chosen.experiments, layout.predictions)
        return [*drawn, *_divided(predicted, parts)]
    if figure == "reconstruction":
        sets = figure_residuals(chosen, figure)
        drawn += sorted({path for name in sets for path in models_behind(layout, chosen, name)})
    return drawn


def figure_residuals(chosen: Dataset, figure: str) -> list[str]:
    """The instances of residual sets whose maps a figure shows."""
    shown = ((name, n) for name in sets_shown(chosen, figure) for n in chosen.shared_subsets)
    return list(dict.fromkeys(residual_instance(chosen, *each) for each in shown))


def job_counts(layout: Layout, chosen: Dataset, batches: Batches) -> dict[str, int]:
    """Jobs of each stage that a run of everything has, when nothing is made yet."""
    brought = set(unpacked_models(layout, chosen))  # by the job that unpacks all of them
    asked = {
        layout.work_of(path) for path in all_results(layout, chosen, batches) if path not in brought
    }
    counts = Counter(work.partition(" ")[0] for work in asked)
    phantom = {"phantom": 1} if chosen.source.phantom else {}
    return phantom | {stage: counts[stage] for stage in STAGES if counts[stage]}
