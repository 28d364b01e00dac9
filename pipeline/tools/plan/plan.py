"""`grcsf plan`: jobs, disk and hours of a run, per data set and stage, before anything runs.

It reads names and headers of the images, and where a header cannot be read it assumes a size and
says so. Only hours, and the disk of trained networks, need the networks themselves: without them
nothing here imports torch. docs/reference/scale.md tells how to read the figures,
and what they leave out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.configured import planned_cases
from pipeline.datasets.subsets import divided_cases
from pipeline.orchestration.job_files import job_counts
from pipeline.planning.batches import planned_batches
from pipeline.planning.folds import fold_note
from pipeline.planning.preflight import check_given, check_healthy, check_split, check_units
from pipeline.planning.rates import Rates
from pipeline.planning.sizes import (
    CaseSize,
    case_sizes,
    is_divided,
    stores_needed,
)
from pipeline.settings import Dataset, SamExperiment, Settings
from pipeline.storage.layout import Layout

MADE_BY = {
    "case stores": "ingest",
    "trained MAEs": "train_mae",
    "residual stores": "residual_maps",
    "trained networks": "train_segmentation",
    "predictions": "predict",
}


@dataclass(frozen=True)
class StagePlan:
    """One stage of a data set.

    What is not estimated is empty or None.
    """

    jobs: int
    hours: dict[str, float] = field(default_factory=dict)  # by device (`cuda`, `cpu`)
    size: int | None = None  # bytes


@dataclass(frozen=True)
class DatasetPlan:
    """What the run of a data set takes at most."""

    dataset: str
    cases: int
    labelled: int  # cases with reference
    slices: int  # of all cases
    known: int  # cases whose header gives their size
    assumed: tuple[int, int, int] | None  # voxels (z, y, x) of the others, if any
    stages: dict[str, StagePlan]  # in the data's order
    folds: str | None = None  # what each has of its own, in words
    left_out: str | None = None  # whose hours are not estimated, in words

    @property
    def total(self) -> StagePlan:
        """All stages together."""
        return together(list(self.stages.values()))


def together(parts: Sequence[StagePlan]) -> StagePlan:
    """The sum of all parts, hours by device."""
    hours: dict[str, float] = defaultdict(float)
    for part in parts:
        for device, count in part.hours.items():
            hours[device] += count
    jobs, size = sum(part.jobs for part in parts), sum(part.size or 0 for part in parts)
    return StagePlan(jobs, dict(hours), size)


def plan(settings: Settings, rates: Mapping[str, Rates] | None = None) -> list[DatasetPlan]:
    """What a run of the whole configuration takes, by data set.

    `rates` are of every device that it uses (`pipeline.planning.workload.devices_used`). Without
    them, hours and the disk of trained networks are not estimated.

    Raises:
        PipelineError: a data set cannot be listed or split, its units do not fit, or weights or
            predictions that its jobs read are not there.
    """
    return [_dataset_plan(settings, name, rates) for name in settings.datasets]


def _dataset_plan(settings: Settings, name: str, rates: Mapping[str, Rates] | None) -> DatasetPlan:
    dataset = settings.datasets[name]
    source = dataset.source
    files = planned_cases(settings, name)
    check_split(dataset, files, settings.seed)
    check_units(dataset, files)
    check_healthy(dataset, files)
    layout = Layout(Path(settings.results), name)
    check_given(layout, dataset)
    shape = source.phantom.shape if source.phantom else None
    cases = case_sizes(files, source.adapter, dataset.slices, shape=shape)
    together = settings.resources.cases_per_job
    batches = planned_batches(layout, dataset, files, settings.seed, together)
    jobs = job_counts(layout, dataset, batches)
    disk, hours = stores_needed(dataset, cases), {}
    if rates:
        from pipeline.planning.disk import disk_needed

        disk = disk_needed(dataset, cases)
        hours = _hours(settings, dataset, cases, rates)
    sizes = {MADE_BY[kind]: size for kind, size in disk.items()}
    stages = {
        stage: StagePlan(count, hours.get(stage, {}), sizes.get(stage))
        for stage, count in jobs.items()
    }
    labelled, slices = (sum(case.labelled for case in cases), sum(case.shape[0] for case in cases))
    assumed = [case.shape for case in cases if not case.known]
    known = len(cases) - len(assumed)
    first = assumed[0] if assumed else None
    told = fold_note(name, dataset), _left_out(dataset) if rates else None
    return DatasetPlan(name, len(cases), labelled, slices, known, first, stages, *told)


def _left_out(dataset: Dataset) -> str | None:
    """That SAM's hours hang on masks that are not there yet; None without it."""
    found = dataset.experiments.items()
    names = [name for name, experiment in found if isinstance(experiment, SamExperiment)]
    if not names:
        return None
    why = "it sees only slices in which the prompting masks show something"
    return f"hours of predict without {', '.join(names)} (SAM): {why}"


def _hours(
    settings: Settings, dataset: Dataset, cases: Sequence[CaseSize], rates: Mapping[str, Rates]
) -> dict[str, dict[str, float]]:
    """Stage → device → hours."""
    from pipeline.planning.workload import stage_work

    hours: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    labelled = {
        case.case: {"group": case.group, "role": case.role} for case in cases if is_divided(case)
    }
    applied = dataset.bundle is not None
    subsets = divided_cases(labelled, dataset.split, settings.seed, applied=applied)
    work = stage_work(dataset, cases, subsets, settings.resources, settings.seed)
    for (stage, device, kind), macs in work.items():
        hours[stage][device] += rates[device].hours(kind, macs)
    return {stage: dict(by_device) for stage, by_device in hours.items()}
