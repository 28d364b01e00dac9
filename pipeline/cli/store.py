"""`grcsf store …`: list, verify and prune stores, and export residual maps.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.job import (
    AsJson,
    Config,
    DatasetName,
    Override,
    app,
    check_names,
    open_job,
    open_jobs,
)
from pipeline.cli.terminal import beside_bar
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout

store_app = typer.Typer(
    no_args_is_help=True, help="List, verify and prune stores; export residuals as NIfTI."
)
app.add_typer(store_app, name="store")

AnyDataset = Annotated[
    str | None, typer.Option("--dataset", help="one data set; all, unless given")
]


@store_app.command("ls")
def list_(
    config: Config, dataset: AnyDataset = None, override: Override = "", as_json: AsJson = False
) -> None:
    """List every store: shape, size on disk, ratio, fingerprint, state."""
    from pipeline.tools.store.inventory import list_stores
    from pipeline.tools.store.table import print_records, print_stores

    layouts = [job.layout for job in open_jobs(config, override, dataset)]
    inventory = {layout.dataset: list_stores(layout) for layout in layouts}
    if as_json:
        print_records(inventory)
    else:
        print_stores(inventory)


@store_app.command()
def verify(config: Config, dataset: AnyDataset = None, override: Override = "") -> None:
    """Read every chunk of every store; name each bad one, and exit with 1 if there is any."""
    from pipeline.tools.store.inventory import store_faults

    checked = bad = 0
    for job in open_jobs(config, override, dataset):
        for _, fault in store_faults(job.layout, job.dataset):
            checked += 1
            if fault:
                bad += 1
                with beside_bar():
                    typer.echo(fault)
    typer.echo(f"{checked} stores, {bad} of them bad")
    if bad:
        raise typer.Exit(1)


@store_app.command()
def prune(
    configs: Annotated[
        list[Path],
        typer.Option("--config", help="every configuration that uses these results; repeat it"),
    ],
    override: Override = "",
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it, only show")] = False,
) -> None:
    """Show what no configuration needs any longer, and delete it with --yes."""
    from pipeline.planning.sizes import size_text
    from pipeline.tools.store.prune import delete, needless

    jobs = [job for config in configs for job in open_jobs(config, override)]
    users: dict[Layout, list[Dataset]] = {}
    for job in jobs:
        users.setdefault(replace(job.layout, shared=None), []).append(job.dataset)
    shared = {job.layout.shared for job in jobs if job.layout.shared is not None}
    found = gone = freed = 0
    for item in needless(users, sorted(shared)):
        kept = delete(item) if yes else ""
        found += 1
        if not kept:
            gone, freed = gone + 1, freed + item.size
        still = f"; not deleted: {kept}" if kept else ""
        typer.echo(f"{item.path}: {item.reason} ({size_text(item.size)}){still}")
    done = "deleted" if yes else "may be deleted; add --yes to do so"
    typer.echo(f"{gone} of them, {size_text(freed)}: {done}" if found else "nothing to delete")
    if gone < found:
        raise typer.Exit(1)


@store_app.command()
def export(
    case: Annotated[str, typer.Argument(help="an ingested case")],
    config: Config,
    dataset: DatasetName,
    output: Annotated[Path, typer.Option(help="folder of the NIfTI files")],
    residuals: Annotated[
        list[str] | None, typer.Option(help="a residual set; all that the case has, unless given")
    ] = None,
    override: Override = "",
) -> None:
    """Write a case's image and residual maps as NIfTI, in the image's own geometry."""
    job = open_job(config, override, dataset)
    for name in residuals or ():
        if name not in job.dataset.residuals:  # which fold's maps follows from the case
            check_names(job, residuals=name)
    from pipeline.tools.store.export import export_case

    for path in export_case(job.layout, job.dataset, case, residuals or (), output):
        typer.echo(path)
