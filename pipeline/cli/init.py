"""`grcsf init`: writes a configuration for a folder of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.job import app


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="a folder of images, or a CSV that lists them")],
    output: Annotated[Path, typer.Option(help="the configuration to write")] = Path("config.yaml"),
    experiments: Annotated[
        str, typer.Option(help="of unet, unetpp, mrm_input and grcsf, with commas")
    ] = "unetpp,grcsf",
    force: Annotated[bool, typer.Option("--force", help="write over an existing file")] = False,
) -> None:
    """Look at FOLDER and write a commented configuration for it that runs as it is."""
    from pipeline.tools.init.init import check_asked
    from pipeline.tools.init.init import init as run
    from pipeline.tools.init.proposal import dataset_name
    from pipeline.tools.init.survey import survey

    names = [name.strip() for name in experiments.split(",") if name.strip()]
    check_asked(folder, output, names, force=force)
    found = survey(folder)
    for note in run(found, output, names):
        typer.echo(note)
    typer.echo(f"{output}: for {len(found.cases)} cases of {folder}, read by {found.adapter}")
    path = shlex.quote(str(output))
    check = f"grcsf check --config {path} --dataset {dataset_name(found)}"
    typer.echo(f"next: {check}    # is the data set whole?")
    typer.echo(f"then: grcsf plan {path} --hours    # jobs, disk and hours, before anything runs")
    typer.echo(f"then: snakemake --cores 2 --configfile {path}")
