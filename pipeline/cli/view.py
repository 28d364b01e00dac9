"""`grcsf view`: looks at cases in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.job import Config, Override, app, check_names, open_job, open_jobs
from pipeline.errors import PipelineError


@app.command()
def view(
    config: Config,
    cases: Annotated[
        list[str] | None, typer.Argument(metavar="CASE", help="these alone, not all tested")
    ] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", help="of the configuration, where it has several")
    ] = "",
    by: Annotated[
        str, typer.Option(metavar="EXPERIMENT", help="worst Dice first of it, not of the baseline")
    ] = "",
    subset: Annotated[
        int | None, typer.Option(min=1, help="a subset of the split alone, not all")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="of repeated experiments")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="only print the address")
    ] = False,
    override: Override = "",
) -> None:
    """Show cases in three planes in a browser: image, residual maps, reference and masks."""
    job = open_job(config, override, dataset or _only_dataset(config, override))
    if by:
        check_names(job, experiment=by)
    if subset and subset not in job.dataset.all_subsets:
        known = len(job.dataset.all_subsets)
        raise PipelineError(f"--subset: found {subset}, expected 1 to {known}, as the split has")
    from pipeline.tools.view.view import open_view, serve

    layout, names = job.layout, cases or []
    server = open_view(layout, job.dataset, names, by=by, subset=subset, repeat=repeat, port=port)
    serve(server, browser=not no_browser, tell=typer.echo)


def _only_dataset(config: Path, override: str) -> str:
    names = [job.layout.dataset for job in open_jobs(config, override)]
    if len(names) > 1:
        raise PipelineError(f"--dataset: {config} has several, name one of: {', '.join(names)}")
    return names[0]
