"""Commands that are no stage: each calls one module of `pipeline/tools`, or writes phantoms.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.job import (
    AsJson,
    Config,
    DatasetName,
    ExperimentName,
    Override,
    RepeatName,
    Subset,
    app,
    check_names,
    open_job,
    open_jobs,
    program_version,
)
from pipeline.errors import PipelineError
from pipeline.settings import configured, further_images, repeat_name, source_root
from pipeline.settings.instances import subsets_that_predict_unlabelled
from pipeline.settings.section import SMALLEST_SIDE
from pipeline.storage.files import make_output
from pipeline.storage.layout import stage_version


@app.command()
def phantom(
    kind: Annotated[str, typer.Argument(help="head, chest or heart")],
    output: Annotated[Path, typer.Argument(help="folder to write into")],
    cases: Annotated[int, typer.Option(min=1)] = 10,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    shape: Annotated[
        tuple[int, int, int] | None, typer.Option(help="z y x, such as --shape 20 64 56")
    ] = None,
    unlabelled: Annotated[int, typer.Option(min=0, help="further cases without mask")] = 0,
) -> None:
    """Write synthetic cases in a reference data set's own layout, with their known truth."""
    from pipeline.datasets.phantoms.phantom import TRUTH, write_phantom
    from pipeline.orchestration.record_writer import Inputs, JobDescription, recorded

    work = JobDescription(
        stage="phantom",
        dataset=output.absolute().parent.name,
        names={"kind": kind},
        root=output.absolute().parents[1],
        written=[output / TRUTH],
        settings={"cases": cases, "shape": shape, "unlabelled": unlabelled},
        seed=seed,
        version=stage_version("datasets/phantoms/phantom"),
    )
    with recorded(work, lambda: Inputs({}, {})):
        write_phantom(kind, output, cases=cases, seed=seed, shape=shape, unlabelled=unlabelled)


@app.command()
def check(config: Config, dataset: DatasetName, override: Override = "") -> None:
    """Read every case: list all faults, describe the data set, and estimate the disk of a run."""
    job = open_job(config, override, dataset)
    from pipeline.tools.check.check import check as run
    from pipeline.tools.check.page import write_page
    from pipeline.tools.check.table import print_check

    settings = job.settings
    root, further = source_root(settings, dataset), further_images(settings, dataset)
    result = run(job.layout, job.dataset, root, further, settings.seed, settings.resources.threads)
    write_page(job.layout, result)
    print_check(result)
    if result.errors:
        raise typer.Exit(1)


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="the configuration file")],
    override: Override = "",
    hours: Annotated[
        bool, typer.Option("--hours", help="estimate them, too, and the trained networks' disk")
    ] = False,
    rates: Annotated[
        Path | None,
        typer.Option(help="--hours on your machine, as benchmarks/rates.py measures it"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print jobs and disk of a run, per data set and stage, before anything runs."""
    settings = open_jobs(config, override)[0].settings
    from pipeline.planning.rates import SHIPPED, load_rates
    from pipeline.tools.plan.plan import plan as run
    from pipeline.tools.plan.table import as_records, table

    chosen = {}
    if hours or rates:
        from pipeline.planning.workload import devices_used

        chosen = {device: load_rates(rates or SHIPPED, device) for device in devices_used(settings)}
    plans = run(settings, chosen)
    typer.echo(as_records(plans, chosen) if as_json else table(plans, chosen))


@app.command()
def complexity(
    config: Annotated[
        Path | None, typer.Option(help="measure its experiments, not the paper's networks")
    ] = None,
    dataset: DatasetName = "",
    override: Override = "",
    input_size: Annotated[
        tuple[int, int] | None, typer.Option(help="y x of the paper's networks; 224 224")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="timed runs; 0: only count")] = 3,
    gpus: Annotated[int, typer.Option(min=0, max=1, help="1: measure on the GPU")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(help="a method, such as SPiN; may be repeated")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print parameters, MACs, peak memory and seconds a slice of each method."""
    job = open_job(config, override, dataset) if config else None
    if job is None and (dataset or override):
        raise PipelineError("--dataset and --set: found without --config, expected with it")
    if job is not None and input_size is not None:
        raise PipelineError("--input-size: the configuration has its own, slices.size; leave it")
    if input_size is not None and min(input_size) < SMALLEST_SIDE:
        raise PipelineError(
            f"--input-size: found {input_size[0]} {input_size[1]}, expected sides of at least "
            f"{SMALLEST_SIDE} pixels"
        )
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler talks of itself on stderr
    from pipeline.planning.network_costs import configured_methods, left_out, paper_methods
    from pipeline.tools.complexity import as_records, chosen_methods, table
    from pipeline.tools.complexity import complexity as run

    size = input_size or (224, 224)
    methods = configured_methods(job.dataset) if job else paper_methods(size)
    chosen = chosen_methods(methods, only or [], {} if job else left_out(size))
    costs = run(chosen, repeats, gpus)
    typer.echo(as_records(costs) if as_json else table(costs))


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
    job = open_job(config, override, dataset, experiment=experiment, subset=subset)
    from pipeline.tools.explain.explain import explain as run

    if output:
        make_output(output)
    folder = output or job.layout.stage("explain") / experiment
    seed = job.settings.seed
    run(job.layout, job.dataset, experiment, case, number or [], subset, folder, seed)


@app.command()
def submission(
    config: Config,
    dataset: DatasetName,
    output: Annotated[Path, typer.Option(help="folder of the submission")],
    experiment: Annotated[
        str, typer.Option(help="whose masks; without it, what lies in the folder is checked only")
    ] = "",
    subset: Subset = 1,
    override: Override = "",
) -> None:
    """Write the test scans' masks as orCaScore takes them, and check them."""
    job = open_job(config, override, dataset)
    from pipeline.tools.submission import check_submission
    from pipeline.tools.submission import submission as run

    if not experiment:
        check_submission(job.layout, output)
        return
    check_names(job, experiment=experiment, subset=subset)
    predicting = subsets_that_predict_unlabelled(job.dataset)
    if subset not in predicting:
        expected = f"expected {predicting[0]}, the fold that predicts the test scans"
        raise PipelineError(f"--subset: found {subset}, {expected}")
    run(job.layout, experiment, subset, output)


@app.command()
def derivatives(
    config: Config,
    dataset: DatasetName,
    experiment: RepeatName,
    output: Annotated[Path, typer.Option(help="folder of the derivatives")],
    subset: Annotated[int | None, typer.Option(min=1, help="one alone, not all")] = None,
    override: Override = "",
) -> None:
    """Write an experiment's masks with the names and description of BIDS derivatives."""
    job = open_job(config, override, dataset, experiment=configured(experiment))
    subsets = [subset] if subset else job.dataset.subsets_of(configured(experiment))
    for number in subsets:
        check_names(job, experiment=experiment, subset=number)
    from pipeline.tools.derivatives import derivatives as run

    for path in run(job.layout, experiment, subsets, output, program_version()):
        typer.echo(path)


@app.command()
def export(
    config: Config,
    dataset: DatasetName,
    experiment: ExperimentName,
    output: Annotated[Path, typer.Option(help="a new .zip")],
    subset: Annotated[str, typer.Option(help="or fold; all: their networks together")] = "1",
    repeat: Annotated[str, typer.Option(help="all: all repeats together")] = "1",
    override: Override = "",
) -> None:
    """Write a trained experiment as one zip that predicts any image; several networks together."""
    chosen = _number_or_all("--subset", subset), _number_or_all("--repeat", repeat)
    job = open_job(config, override, dataset, experiment=experiment)
    from pipeline.settings.apply.members import chosen_members
    from pipeline.tools.export.export import export_run

    members = chosen_members(job.dataset, experiment, *chosen)
    for member in members:
        name = repeat_name(experiment, member.repeat)
        check_names(job, experiment=name, subset=member.subset)
    export_run(job.layout, job.dataset, experiment, members, job.settings.seed, output)


def _number_or_all(option: str, given: str) -> int | None:
    """What an option names: None stands for all."""
    if given == "all":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise PipelineError(f"{option}: found {given!r}, expected a number from 1, or all")
    return int(given)
