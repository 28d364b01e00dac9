"""`grcsf predict`: the stage of that name, or an exported model on images that nobody ingested.

Heavy imports stay inside the command, so that `--help` is instant.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.job import Override, app, bound_threads, named, open_job, recorded
from pipeline.cli.terminal import beside_bar
from pipeline.errors import PipelineError
from pipeline.settings import Resources, Untrained, configured, encoder_mae, residual_count
from pipeline.settings.instances import instances_of, subsets_that_predict_unlabelled
from pipeline.storage.batches import ALL

log = logging.getLogger(__name__)


@app.command()
def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(help="NIfTI, MetaImage, NRRD or a DICOM folder")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="what grcsf export wrote")] = None,
    output: Annotated[Path | None, typer.Option(help="folder of the masks")] = None,
    mask_format: Annotated[
        Literal["nifti", "seg"] | None,
        typer.Option("--format", help="nifti unless given; seg: DICOM SEG"),
    ] = None,
    probabilities: Annotated[bool, typer.Option(help="write them, too")] = False,
    uncertainty: Annotated[
        bool, typer.Option(help="write it, too, of a model of several networks")
    ] = False,
    gpus: Annotated[int | None, typer.Option(min=0, max=1, help="1: use the GPU")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="2 unless given")] = None,
    config: Annotated[Path | None, typer.Option(help="of the stage")] = None,
    dataset: Annotated[str, typer.Option(help="of the stage")] = "",
    experiment: Annotated[str, typer.Option(help="of the stage")] = "",
    subset: Annotated[int | None, typer.Option(min=1, help="of the stage; 1 unless given")] = None,
    batch: Annotated[str, typer.Option(help="of the stage, such as 2of4")] = ALL,
    override: Override = "",
) -> None:
    """Predict IMAGES with an exported model; as a stage, test cases of a configuration."""
    if images:
        of_stage = dataset or experiment or override or batch
        if config is not None or of_stage or subset is not None:
            raise PipelineError(
                "predict: images are predicted with --model alone; leave --config, --dataset, "
                "--experiment, --subset, --batch and --set"
            )
        if model is None or output is None:
            raise PipelineError("predict: images need --model (see grcsf export) and --output")
        resources = Resources(gpus=gpus or 0, threads=threads or 2)
        bound_threads(resources.threads)
        from pipeline.tools.export.predict_images import predict_images as run

        run(
            images,
            model,
            output,
            resources,
            probabilities=probabilities,
            uncertainty=uncertainty,
            mask_format=mask_format or "nifti",
            tell=_teller(len(images)),
        )
        return
    if config is None or not dataset or not experiment:
        raise PipelineError(
            "predict: expected images with --model and --output, or --config, --dataset and "
            "--experiment"
        )
    options = (model, output, mask_format, gpus, threads)
    if probabilities or uncertainty or any(option is not None for option in options):
        raise PipelineError(
            "predict: --model, --output, --format, --probabilities, --uncertainty, --gpus and "
            "--threads go with images; name images, or leave them"
        )
    _predict_test_cases(config, override, dataset, experiment, subset or 1, batch)


def _teller(images: int) -> Callable[[str], None]:
    """What prints the line of an image that is done, none if it is "", and moves the bar on."""
    done = itertools.count(1)

    def tell(line: str) -> None:
        if line:
            with beside_bar():
                typer.echo(line)
        name = line.partition(":")[0] or "an image that could not be used"
        log.debug("%s", name, extra={"done": next(done), "of": images})

    return tell


def _predict_test_cases(
    config: Path, override: str, dataset: str, experiment: str, subset: int, batch: str
) -> None:
    job = open_job(config, override, dataset, experiment=experiment, subset=subset)
    chosen, slices = job.dataset.experiments[configured(experiment)], job.dataset.slices
    if isinstance(chosen, Untrained):  # which has no other job that its resources could be for
        job = replace(job, resources=chosen.resources.over(job.resources))
    from pipeline.predict import predict as run

    maps, mae = residual_count(job.dataset, experiment), encoder_mae(job.dataset, experiment)
    with recorded(job, "predict", experiment=experiment, subset=subset, **named(batch)):
        used = instances_of(job.dataset, experiment, subset).residuals
        asked = subset in subsets_that_predict_unlabelled(job.dataset)
        given = (job.layout, experiment, subset, chosen, maps, slices, job.resources, mae, used)
        members = job.dataset.members_of(configured(experiment), subset)
        run(*given, unlabelled=asked, members=members, batch=batch)
