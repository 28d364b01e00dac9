"""`grcsf trace`: follows a result back to the raw files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.job import app
from pipeline.cli.terminal import draws_bars


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="a table, mask, store, model or page of results/")],
    case: Annotated[str, typer.Option(help="follow this patient alone")] = "",
    experiment: Annotated[
        list[str] | None, typer.Option(help="of a table, follow it alone; may be repeated")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="leave images, stores and models unread")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="records in place of a tree")] = False,
) -> None:
    """Follow FILE back to the raw files; exit with 1 if one on the way is not as recorded."""
    from pipeline.tools.trace.text import as_records, tree
    from pipeline.tools.trace.trace import trace as run

    with _progress() as tell:
        chain = run(file, case, tuple(experiment or ()), quick=quick, tell=tell)
    if as_json:
        typer.echo(json.dumps(as_records(chain), indent=1))
    else:
        for line in tree(chain):
            typer.echo(line)
    if chain.broken:
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Callable[[str], object]]:
    """Yield a function that shows a file's name on one line of the terminal, if stderr is one."""
    if not draws_bars():
        yield str
        return
    clear = "\r\033[K"

    def tell(file: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"{clear}{f'comparing {file}'[:width]}")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write(clear)
        sys.stderr.flush()
