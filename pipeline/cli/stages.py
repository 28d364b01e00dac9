"""A command for each stage; the workflow's rules call them.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.job import (
    Batch,
    Config,
    DatasetName,
    ExperimentName,
    Job,
    Override,
    RepeatName,
    Subset,
    app,
    named,
    open_job,
    recorded,
)
from pipeline.networks.nodes import is_to_be_spread, train_on_nodes
from pipeline.settings import (
    GradCam,
    configured,
    encoder_mae,
    further_images,
    residual_count,
    source_root,
)
from pipeline.settings.instances import instances_of, subsets_served
from pipeline.settings.tables import table_experiments
from pipeline.storage.batches import ALL, ONE_BATCH

if TYPE_CHECKING:
    from pipeline.storage.residual_store import StillRead


@app.command()
def ingest(
    config: Config, dataset: DatasetName, batch: Batch = ALL, override: Override = ""
) -> None:
    """Check every case and write its image and label to a case store."""
    from pipeline.ingest import ingest as run

    job = open_job(config, override, dataset)
    root, further = source_root(job.settings, dataset), further_images(job.settings, dataset)
    with recorded(job, "ingest", **named(batch)):
        plane, at_once = job.dataset.slices.plane, job.resources.cases_per_job
        source, threads = job.dataset.source, job.resources.threads
        run(job.layout, source, root, further, threads, plane, batch, at_once)


@app.command()
def split(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Decide who trains, validates and tests."""
    from pipeline.split import split as run

    job = open_job(config, override, dataset)
    with recorded(job, "split"):
        applied = job.dataset.bundle is not None
        run(job.layout, job.dataset.split, job.settings.seed, applied=applied)


@app.command()
def train_mae(
    config: Config,
    dataset: DatasetName,
    mae: Annotated[
        str, typer.Option(help="an MAE of the data set, or of one fold such as paper/fold-2")
    ],
    override: Override = "",
) -> None:
    """Train a masked autoencoder on lesion-free slices of training cases."""
    job = open_job(config, override, dataset, training=True, mae=mae)
    with recorded(job, "train_mae", mae=mae):
        if is_to_be_spread(job.resources):
            train_on_nodes(f"MAE {mae}", job.resources)
            return
        from pipeline.train_mae import train_mae as run

        chosen, seed = job.dataset.mae[configured(mae)], job.settings.seed
        run(job.layout, mae, chosen, job.dataset.slices, seed, job.resources)


@app.command()
def residual_maps(
    config: Config,
    dataset: DatasetName,
    residuals: Annotated[str, typer.Option(help="a residual set of the data set, or of one fold")],
    batch: Annotated[str, typer.Option(help="only this batch of cases, such as 2of4")] = ONE_BATCH,
    only_read: Annotated[
        bool, typer.Option(help="leave out maps that no job of the running call reads")
    ] = False,
    override: Override = "",
) -> None:
    """Reconstruct every slice and keep the residual maps, one store per case (or Grad-CAM's)."""
    job = open_job(config, override, dataset, residuals=residuals)
    batch = batch or ONE_BATCH
    layout, slices, resources = job.layout, job.dataset.slices, job.resources
    chosen = job.dataset.residuals[configured(residuals)]
    subsets = subsets_served(job.dataset, residuals)
    still_read = _still_read(job, residuals, only_read=only_read)
    with recorded(job, "residual_maps", residuals=residuals, **named(batch)):
        if isinstance(chosen, GradCam):
            from pipeline.networks.grad_cam import grad_cam_maps

            source = job.dataset.trained(chosen.grad_cam, "for Grad-CAM")
            networks = (chosen, source, subsets, slices, resources)
            grad_cam_maps(layout, residuals, batch, *networks, still_read)
            return
        from pipeline.residual_maps import residual_maps as run

        maes = {part.mae: job.dataset.mae[part.mae] for part in chosen.maps}
        seed = job.settings.seed
        how = (slices, seed, resources)
        apart = job.dataset.bundle is not None  # as grcsf predict IMAGE has each image
        given = (layout, residuals, batch, chosen, maes, subsets, *how)
        run(*given, still_read, apart=apart)


def _still_read(job: Job, residuals: str, *, only_read: bool) -> StillRead | None:
    """Which maps are made, where maps are given back: all, or those that the call's jobs read."""
    if not job.settings.store.gives_back:
        return None
    if not only_read:
        return lambda cases, _: cases
    from pipeline.orchestration.maps_read import maps_read

    return partial(maps_read, job.layout, job.settings, residuals)


@app.command()
def train_segmentation(
    config: Config,
    dataset: DatasetName,
    experiment: RepeatName,
    subset: Subset = 1,
    override: Override = "",
) -> None:
    """Train an experiment's network on one subset."""
    job = open_job(config, override, dataset, training=True, experiment=experiment, subset=subset)
    chosen = job.dataset.trained(experiment, "to train it")
    with recorded(job, "train_segmentation", experiment=experiment, subset=subset):
        if is_to_be_spread(job.resources):
            train_on_nodes(f"{experiment}, subset {subset}", job.resources)
            return
        from pipeline.train_segmentation import train_segmentation as run

        layout, slices, seed = job.layout, job.dataset.slices, job.settings.seed
        maps, mae = residual_count(job.dataset, experiment), encoder_mae(job.dataset, experiment)
        used = instances_of(job.dataset, experiment, subset)
        run(layout, experiment, subset, chosen, maps, slices, seed, job.resources, mae, used)


@app.command()
def postprocess(
    config: Config,
    dataset: DatasetName,
    experiment: RepeatName,
    subset: Subset = 1,
    batch: Batch = ALL,
    override: Override = "",
) -> None:
    """Turn probabilities into masks in the source's geometry."""
    job = open_job(config, override, dataset, experiment=experiment, subset=subset)
    from pipeline.postprocess import postprocess as run

    with recorded(job, "postprocess", experiment=experiment, subset=subset, **named(batch)):
        run(job.layout, experiment, subset, job.dataset.postprocess, batch)


@app.command()
def evaluate(
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    batch: Batch = ALL,
    override: Override = "",
) -> None:
    """Score an experiment's masks per patient."""
    job = open_job(config, override, dataset, experiment=experiment)
    from pipeline.evaluate import evaluate as run

    with recorded(job, "evaluate", experiment=experiment, **named(batch)):
        subsets, chosen = job.dataset.subsets_of(experiment), job.dataset.evaluation
        masks, seed, threads = job.dataset.postprocess, job.settings.seed, job.resources.threads
        repeats = job.dataset.experiments[experiment].repeats
        run(job.layout, experiment, subsets, chosen, masks, seed, threads, repeats, batch)


@app.command()
def compare(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Put all experiments side by side in one table."""
    from pipeline.compare import compare as run

    job = open_job(config, override, dataset)
    experiments, subsets = list(job.dataset.experiments), job.dataset.shared_subsets
    with recorded(job, "compare"):
        run(job.layout, experiments, subsets, job.dataset.evaluation, job.settings.seed)


@app.command()
def tabulate(
    config: Config,
    dataset: DatasetName,
    table: Annotated[str, typer.Option(help="a table of the data set")],
    override: Override = "",
) -> None:
    """Put chosen experiments in a table, with published figures beside theirs."""
    job = open_job(config, override, dataset, table=table)
    from pipeline.tabulate import tabulate as run

    chosen, macs = job.dataset.tables[table], {}
    if "macs" in chosen.columns:
        from pipeline.planning.network_costs import network_macs

        rows = [name for name in table_experiments(chosen) if name in job.dataset.networks]
        macs = {name: network_macs(job.dataset, name) for name in rows}
    with recorded(job, "tabulate", table=table):
        run(job.layout, table, job.dataset, job.settings.seed, macs)


@app.command()
def draw(
    config: Config,
    dataset: DatasetName,
    figure: Annotated[str, typer.Option(help="a figure of the data set")],
    override: Override = "",
) -> None:
    """Draw a figure of the paper from the results, as a journal prints it."""
    job = open_job(config, override, dataset, figure=figure)
    from pipeline.draw import draw as run

    with recorded(job, "draw", figure=figure):
        run(job.layout, figure, job.dataset, job.settings.seed)


@app.command()
def report(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Write one self-contained page: settings, tables, curves, a picture per test case."""
    from pipeline.report import report as run

    job = open_job(config, override, dataset)
    # as a user would type it: pages are passed on, without the way to the project
    typed = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    configured_by = ["--config", str(typed), *(["--set", override] if override else [])]
    with recorded(job, "report"):
        given = (job.layout, job.dataset, job.settings.seed, configured_by)
        run(*given, maps=not job.settings.store.gives_back)
