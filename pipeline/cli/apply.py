"""A command for each stage of an applied model alone; the workflow's rules call them.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pipeline.cli.job import (
    Batch,
    Config,
    DatasetName,
    Job,
    Override,
    app,
    named,
    open_job,
    recorded,
)
from pipeline.errors import PipelineError
from pipeline.settings import stage_settings
from pipeline.settings.apply.section import Apply
from pipeline.settings.paths import expanded
from pipeline.storage.batches import ALL
from pipeline.storage.layout import stage_version


def _applied(job: Job) -> tuple[Apply, Path]:
    """What is applied, and the path of its bundle.

    Raises:
        PipelineError: the configuration trains its own models.
    """
    if job.settings.apply is None:
        raise PipelineError("apply: not given, expected a configuration with apply.model")
    return job.settings.apply, expanded(job.settings.apply.model, "apply.model")


@app.command()
def unpack(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Put the networks of an applied model where those of trainings lie."""
    job = open_job(config, override, dataset)
    _, model = _applied(job)
    from pipeline.orchestration import record_writer
    from pipeline.orchestration.applied_files import unpacked_models
    from pipeline.unpack import unpack as run

    def inputs() -> record_writer.Inputs:
        return record_writer.Inputs(record_writer.input_digests([model]), {})

    with recorded(job, "unpack"), ExitStack() as records:
        for manifest in unpacked_models(job.layout, job.dataset):
            work = record_writer.JobDescription(
                stage="unpack",
                dataset=dataset,
                names={},
                root=job.layout.root,
                written=[manifest],
                settings=stage_settings(job.settings, "unpack", dataset),
                seed=job.settings.seed,
                version=stage_version("unpack"),
            )
            manifest.parent.mkdir(parents=True, exist_ok=True)
            records.enter_context(record_writer.recorded(work, inputs))
        run(job.layout, model)


@app.command()
def measure(
    config: Config, dataset: DatasetName, batch: Batch = ALL, override: Override = ""
) -> None:
    """Measure a batch of an applied model's masks; of all batches, write the cohort's table."""
    job = open_job(config, override, dataset)
    apply, model = _applied(job)
    from pipeline.measure import measure as run
    from pipeline.measure import measure_batch

    with recorded(job, "measure", **named(batch)):
        if batch:
            measure_batch(job.layout, batch, job.dataset, apply.format)
        else:
            run(job.layout, job.dataset, model.name)
