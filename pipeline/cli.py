"""The command line: one command a stage, `phantom` for data to try it with, and `complexity`.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipeline.configuration import load_settings
from pipeline.errors import PipelineError
from pipeline.layout import Layout
from pipeline.settings import (
    Dataset,
    GradCam,
    Settings,
    encoder_mae,
    further_images,
    residual_count,
    source_root,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Lesion segmentation with global and regional compensation, stage by stage.",
)

Config = Annotated[Path, typer.Option("--config", help="the configuration file")]
Override = Annotated[str, typer.Option("--set", help="JSON merged over the configuration")]
DatasetName = Annotated[str, typer.Option("--dataset", help="a data set of the configuration")]
ExperimentName = Annotated[str, typer.Option("--experiment", help="an experiment of the data set")]
Subset = Annotated[int, typer.Option("--subset", min=1, help="a subset of the split")]

MACHINE_FAULTS = {
    errno.ENOSPC: "no space left; free some and run again, finished cases are kept",
    errno.EDQUOT: "disk quota reached; free some space and run again, finished cases are kept",
    errno.EACCES: "not permitted; make the folder writable or choose another `results`",
    errno.EPERM: "not permitted; make the folder writable or choose another `results`",
    errno.EROFS: "read-only file system; choose another `results`",
    errno.ENOTDIR: "a file is where a folder is needed; choose another `results`",
}


@dataclass(frozen=True)
class Job:
    """What a command works on."""

    settings: Settings
    dataset: Dataset
    layout: Layout


def _job(config: Path, override: str, dataset: str) -> Job:
    try:
        over = json.loads(override or "{}")
    except ValueError as error:
        raise PipelineError(f"--set: found {override!r}, expected JSON ({error})") from None
    settings = load_settings(config, over)
    if dataset not in settings.datasets:
        known = ", ".join(settings.datasets)
        raise PipelineError(f"--dataset: {config} has no {dataset!r}; it has: {known}")
    _bound_threads(settings.resources.threads)
    return Job(settings, settings.datasets[dataset], Layout(Path(settings.results), dataset))


def _bound_threads(threads: int) -> None:
    # read once when torch and ITK are first imported, which is after this
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(variable, str(threads))


def _named(kind: str, name: str, known: dict[str, object]) -> None:
    if name not in known:
        raise PipelineError(f"--{kind}: there is no {name!r}; choose from: {', '.join(known)}")


def _known_subset(subset: int, dataset: Dataset, experiment: str) -> None:
    known = dataset.subsets_of(experiment)
    if subset not in known:
        raise PipelineError(
            f"--subset: found {subset}, but {experiment} has: {', '.join(map(str, known))}"
        )


@app.command()
def phantom(
    kind: Annotated[str, typer.Argument(help="head, chest or heart")],
    output: Annotated[Path, typer.Argument(help="folder to write into")],
    cases: Annotated[int, typer.Option(min=1)] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    shape: Annotated[tuple[int, int, int] | None, typer.Option(help="z y x")] = None,
    unlabelled: Annotated[int, typer.Option(min=0, help="further cases without mask")] = 0,
) -> None:
    """Write synthetic cases in a reference data set's own layout, with their known truth."""
    from pipeline.datasets.phantom import write_phantom

    write_phantom(kind, output, cases=cases, seed=seed, shape=shape, unlabelled=unlabelled)


@app.command()
def ingest(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Check every case and write its image and label to a case store."""
    from pipeline.ingest import ingest as run

    job = _job(config, override, dataset)
    root = source_root(job.settings, dataset)
    further = further_images(job.settings, dataset)
    run(job.layout, job.dataset.source, root, further, job.settings.resources.threads)


@app.command()
def split(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Decide who trains, validates and tests."""
    from pipeline.split import split as run

    job = _job(config, override, dataset)
    run(job.layout, job.dataset.split, job.settings.seed)


@app.command()
def train_mae(
    config: Config,
    dataset: DatasetName,
    mae: Annotated[str, typer.Option(help="an MAE of the data set")],
    override: Override = "",
) -> None:
    """Train a masked autoencoder on lesion-free slices of training cases."""
    job = _job(config, override, dataset)
    _named("mae", mae, dict(job.dataset.mae))
    from pipeline.train_mae import train_mae as run

    run(
        job.layout,
        mae,
        job.dataset.mae[mae],
        job.dataset.slices,
        job.settings.seed,
        job.settings.resources,
    )


@app.command()
def residual_maps(
    config: Config,
    dataset: DatasetName,
    residuals: Annotated[str, typer.Option(help="a residual set of the data set")],
    batch: Annotated[str, typer.Option(help="only this batch of cases, such as 2of4")] = "1of1",
    override: Override = "",
) -> None:
    """Reconstruct every slice and keep the residual maps, one store per case (or Grad-CAM's)."""
    job = _job(config, override, dataset)
    _named("residuals", residuals, dict(job.dataset.residuals))
    chosen = job.dataset.residuals[residuals]
    if isinstance(chosen, GradCam):
        from pipeline.grad_cam import grad_cam_maps

        grad_cam_maps(
            job.layout,
            residuals,
            batch,
            chosen,
            job.dataset.experiments[chosen.grad_cam],
            job.dataset.subsets_with(residuals),
            job.dataset.slices,
            job.settings.resources,
        )
        return
    from pipeline.residual_maps import residual_maps as run

    run(
        job.layout,
        residuals,
        batch,
        chosen,
        {one.mae: job.dataset.mae[one.mae] for one in chosen.maps},
        job.dataset.subsets_with(residuals),
        job.dataset.slices,
        job.settings.seed,
        job.settings.resources,
    )


@app.command()
def train_segmentation(
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    subset: Subset = 1,
    override: Override = "",
) -> None:
    """Train an experiment's network on one subset."""
    job = _job(config, override, dataset)
    _named("experiment", experiment, dict(job.dataset.experiments))
    _known_subset(subset, job.dataset, experiment)
    from pipeline.train_segmentation import train_segmentation as run

    run(
        job.layout,
        experiment,
        subset,
        job.dataset.experiments[experiment],
        residual_count(job.dataset, experiment),
        job.dataset.slices,
        job.settings.seed,
        job.settings.resources,
        encoder_mae(job.dataset, experiment),
    )


@app.command()
def predict(
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    subset: Subset = 1,
    override: Override = "",
) -> None:
    """Predict lesion probabilities of test cases on the source's grid."""
    job = _job(config, override, dataset)
    _named("experiment", experiment, dict(job.dataset.experiments))
    _known_subset(subset, job.dataset, experiment)
    from pipeline.predict import predict as run

    run(
        job.layout,
        experiment,
        subset,
        job.dataset.experiments[experiment],
        residual_count(job.dataset, experiment),
        job.dataset.slices,
        job.settings.resources,
        encoder_mae(job.dataset, experiment),
    )


@app.command()
def postprocess(
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    subset: Subset = 1,
    override: Override = "",
) -> None:
    """Turn probabilities into masks in the source's geometry."""
    job = _job(config, override, dataset)
    _named("experiment", experiment, dict(job.dataset.experiments))
    _known_subset(subset, job.dataset, experiment)
    from pipeline.postprocess import postprocess as run

    run(job.layout, experiment, subset, job.dataset.postprocess)


@app.command()
def evaluate(
    config: Config, dataset: DatasetName, experiment: ExperimentName, override: Override = ""
) -> None:
    """Score an experiment's masks per patient."""
    job = _job(config, override, dataset)
    _named("experiment", experiment, dict(job.dataset.experiments))
    from pipeline.evaluate import evaluate as run

    run(
        job.layout,
        experiment,
        job.dataset.subsets_of(experiment),
        job.dataset.evaluation,
        job.dataset.postprocess,
        job.settings.seed,
        job.settings.resources.threads,
    )


@app.command()
def compare(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Put all experiments side by side in one table."""
    from pipeline.compare import compare as run

    job = _job(config, override, dataset)
    experiments, subsets = list(job.dataset.experiments), job.dataset.shared_subsets
    run(job.layout, experiments, subsets, job.dataset.evaluation, job.settings.seed)


@app.command()
def tabulate(
    config: Config,
    dataset: DatasetName,
    table: Annotated[str, typer.Option(help="a table of the data set")],
    override: Override = "",
) -> None:
    """Put chosen experiments in a table, with published figures beside theirs."""
    job = _job(config, override, dataset)
    _named("table", table, dict(job.dataset.tables))
    from pipeline.tabulate import tabulate as run

    run(job.layout, table, job.dataset, job.settings.seed)


@app.command()
def report(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Write one self-contained page: settings, tables, curves, a picture per test case."""
    from pipeline.report import report as run

    job = _job(config, override, dataset)
    run(job.layout, job.dataset, job.settings.seed)


@app.command()
def complexity(
    config: Annotated[
        Path | None, typer.Option(help="measure its experiments, not the paper's networks")
    ] = None,
    dataset: Annotated[str, typer.Option(help="a data set of the configuration")] = "",
    override: Override = "",
    input_size: Annotated[
        tuple[int, int] | None, typer.Option(help="y x of the paper's networks; 224 224")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="timed runs; 0: only count")] = 3,
    gpus: Annotated[int, typer.Option(min=0, max=1, help="1: measure on the GPU")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="records in place of a table")] = False,
) -> None:
    """Print parameters, MACs, peak memory and seconds a slice of each method."""
    job = _job(config, override, dataset) if config else None
    if job is None and (dataset or override):
        raise PipelineError("--dataset and --set: found without --config, expected with it")
    if job is not None and input_size is not None:
        raise PipelineError("--input-size: the configuration has its own, slices.size; leave it")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler talks of itself on stderr
    from pipeline.complexity import complexity as run
    from pipeline.complexity import records, table
    from pipeline.methods import configured_methods, paper_methods

    methods = configured_methods(job.dataset) if job else paper_methods(input_size or (224, 224))
    costs = run(methods, repeats, gpus)
    typer.echo(records(costs) if as_json else table(costs))


@app.command()
def explain(
    case: Annotated[str, typer.Argument(help="an ingested case")],
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    number: Annotated[
        list[int] | None, typer.Option("--slice", help="from 1, as in the report; may be repeated")
    ] = None,
    subset: Subset = 1,
    output: Annotated[Path | None, typer.Option(help="folder of the pictures")] = None,
    override: Override = "",
) -> None:
    """Draw what the masked passes and the network's units make of a case's slices."""
    job = _job(config, override, dataset)
    _named("experiment", experiment, dict(job.dataset.experiments))
    _known_subset(subset, job.dataset, experiment)
    from pipeline.explain import explain as run

    folder = output or job.layout.stage("explain") / experiment
    seed = job.settings.seed
    run(job.layout, job.dataset, experiment, case, number or [], subset, folder, seed)


def main() -> None:
    """Run a command; a user's or the machine's fault is one line and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    warnings.filterwarnings("ignore", module="lightning")
    try:
        app()
    except PipelineError as error:
        sys.exit("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
    except OSError as error:
        if error.errno not in MACHINE_FAULTS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{MACHINE_FAULTS[error.errno]}")
