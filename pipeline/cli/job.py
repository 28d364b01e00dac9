"""The application, the options that commands share, and the job that a command works on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.terminal import choose_level, log_lines
from pipeline.errors import PipelineError, one_line
from pipeline.settings import (
    AnyExperiment,
    Dataset,
    Mae,
    Resources,
    Settings,
    configured,
    further_images,
    repeat_seed,
    source_root,
    stage_settings,
    store_root,
)
from pipeline.settings.reading import load_settings
from pipeline.storage.batches import is_batch
from pipeline.storage.layout import Layout, stage_version

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Lesion segmentation with global and regional compensation, stage by stage.",
)


def program_version() -> str:
    """The version of the checkout that runs, or of the package where it is installed."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])
    return importlib.metadata.version("grcsf")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"grcsf {program_version()}")
        raise typer.Exit


@app.callback()
def habits(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="and end")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="warnings and results alone")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="details, with tracebacks")] = False,
) -> None:
    """What all commands have in common; these options stand before the command."""
    if quiet and verbose:
        raise PipelineError("--quiet and --verbose: found both, expected one of them")
    choose_level(quiet=quiet, verbose=verbose)


Config = Annotated[Path, typer.Option("--config", help="the configuration file")]
Override = Annotated[str, typer.Option("--set", help="JSON merged over the configuration")]
DatasetName = Annotated[str, typer.Option("--dataset", help="a data set of the configuration")]
ExperimentName = Annotated[str, typer.Option("--experiment", help="an experiment of the data set")]
RepeatName = Annotated[
    str, typer.Option("--experiment", help="an experiment of the data set, or unet/repeat-2 of it")
]
Batch = Annotated[str, typer.Option("--batch", help="only this batch of cases, such as 2of4")]
AsJson = Annotated[bool, typer.Option("--json", help="records in place of a table")]
Subset = Annotated[int, typer.Option("--subset", min=1, help="a subset of the split")]


@dataclass(frozen=True)
class Job:
    """A data set with its settings, its layout, and the resources of this job."""

    settings: Settings
    dataset: Dataset
    layout: Layout
    resources: Resources


def open_job(
    config: Path, override: str, dataset: str, *, training: bool = False, **asked: str | int
) -> Job:
    """The job of a command on one data set; it sets the log's form and the number of threads.

    The names in `asked` (`mae`, `residuals`, `experiment`, `table`, `subset`) must exist, too. A
    training has the resources of its MAE or experiment, which is named first.

    Raises:
        PipelineError: the configuration is faulty, or has nothing of one of these names.
    """
    (job,) = open_jobs(config, override, dataset)
    log_lines(dataset)
    if training:
        kind, name = next(iter(asked.items()))
        maes, experiments = job.dataset.mae, job.dataset.experiments
        known: Mapping[str, Mae | AnyExperiment] = maes if kind == "mae" else experiments
        if own := known.get(configured(str(name))):
            job = replace(job, resources=own.resources.over(job.resources))
    bound_threads(job.resources.threads)  # before the check, which imports numpy
    check_names(job, **asked)
    return job


def check_names(job: Job, **asked: str | int) -> None:
    """Refuse names that the configuration does not have; the error lists the known ones."""
    if asked:
        from pipeline.planning import preflight

        preflight.check_names(job.settings, {"dataset": job.layout.dataset, **asked})


def named(batch: str) -> dict[str, str]:
    """A batch among the names of a job; none where it works on all cases.

    Raises:
        PipelineError: it is no name of a batch.
    """
    if batch and not is_batch(batch):
        expected = "expected one of 1, 2, 4, 8 … batches, such as 2of4"
        raise PipelineError(f"--batch: found {batch!r:.60}, {expected}")
    return {"batch": batch} if batch else {}


@contextmanager
def recorded(job: Job, stage: str, **names: str | int) -> Iterator[None]:
    """Lock a stage's result for this process, and write a record of the work beside it.

    The first of `names` is the MAE, residual set, experiment (or one of its repeats) or table.
    """
    from pipeline.orchestration import record_writer
    from pipeline.orchestration.job_files import read_files, written_files
    from pipeline.orchestration.locks import locked
    from pipeline.orchestration.raw_files import raw_files

    layout, first = job.layout, str(next(iter(names.values()), ""))
    work = record_writer.JobDescription(
        stage=stage,
        dataset=layout.dataset,
        names=names,
        root=layout.root,
        written=written_files(layout, stage, names),
        settings=stage_settings(job.settings, stage, layout.dataset, first),
        seed=repeat_seed(job.settings.seed, first),
        version=stage_version(stage),
    )

    def inputs() -> record_writer.Inputs:
        digests = record_writer.input_digests(read_files(layout, job.dataset, stage, names))
        if stage != "ingest":
            return record_writer.Inputs(digests, {})
        settings, dataset = job.settings, layout.dataset
        folders = source_root(settings, dataset), further_images(settings, dataset)
        raw = raw_files(layout, job.dataset, *folders, work.written[0])
        return record_writer.Inputs(digests, raw)

    with locked(layout, stage, *names.values()), record_writer.recorded(work, inputs):
        yield


def open_jobs(config: Path, override: str, dataset: str | None = None) -> list[Job]:
    """The jobs of one data set of a configuration, or of all its data sets.

    Raises:
        PipelineError: the configuration is faulty, or has no such data set.
    """
    try:
        over = json.loads(override or "{}")
    except (ValueError, RecursionError) as error:
        reason = one_line(error)
        raise PipelineError(f"--set: found {override!r:.200}, expected JSON ({reason})") from None
    if not isinstance(over, dict):
        raise PipelineError(f"--set: found {override!r}, expected a JSON object of keys and values")
    settings = load_settings(config, over)
    if dataset is not None and dataset not in settings.datasets:
        known = ", ".join(settings.datasets)
        raise PipelineError(f"--dataset: {config} has no {dataset!r}; it has: {known}")
    if settings.store.codecs == "zarrs":
        read_with_zarrs()
    root, shared = Path(settings.results), store_root(settings)
    return [
        Job(settings, chosen, Layout(root, name, shared), settings.resources)
        for name, chosen in settings.datasets.items()
        if dataset in (None, name)
    ]


def bound_threads(threads: int) -> None:
    """Let every numerical library use this number of threads."""
    # numpy, torch and ITK read these once, at their first import, which is later
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(variable, str(threads))


def read_with_zarrs() -> None:
    """Let zarr use zarrs (Rust) for compression and shards, here and in worker processes.

    Raises:
        PipelineError: zarrs is not installed.
    """
    if importlib.util.find_spec("zarrs") is None:
        raise PipelineError(
            "store.codecs: found zarrs, which is not installed; install the extra "
            "(pip install 'grcsf[zarrs]') or set codecs: zarr"
        )
    # zarr reads this once, at its first import, which is later
    os.environ["ZARR_CODEC_PIPELINE__PATH"] = "zarrs.ZarrsCodecPipeline"
