"""The command line: turns options into calls of stages and tools, and faults into one line.

This room may import every other; nothing imports it but `__main__`, the entry point and tests.
Commands import what they call inside themselves, so that `--help` is fast.

- `terminal`: the log on stderr, how much of it is told, and the bar of what takes long.
- `job`: the application, common options, and the job that a command works on.
- `stages`: a command for each stage; `predict`: the stage predict, and images of an exported model.
- `apply`: the stages of an applied model alone.
- `tools`, `store`, `trace`, `view`, `init`: the commands of `pipeline/tools`.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper

from typer.models import CommandInfo

from pipeline.cli import apply, init, predict, stages, store, tools, trace, view
from pipeline.cli.job import app
from pipeline.cli.terminal import close_bar, log_lines
from pipeline.errors import MACHINE_FAULTS, PipelineError
from pipeline.storage.layout import STAGES

__all__ = ["app", "apply", "init", "main", "predict", "stages", "store", "tools", "trace", "view"]


def _place(command: CommandInfo) -> int:
    name = str(command.name or getattr(command.callback, "__name__", "")).replace("-", "_")
    return STAGES.index(name) if name in STAGES else len(STAGES)


app.registered_commands.sort(key=_place)  # `--help` lists the stages in the data's order


def main() -> None:
    """Run a command; a user's or the machine's fault is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal or a log of another encoding than a name's ends no command
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    log_lines()
    warnings.filterwarnings("ignore", module="lightning")
    try:
        app()
    except PipelineError as error:
        sys.exit("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
    except OSError as error:
        fault = MACHINE_FAULTS.get(error.errno or 0)
        if fault is None and error.filename is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        # such as a name that is too long, or links in a circle
        sys.exit(f"error: {where}{fault or f'{error.strerror}; correct the path or its disk'}")
    finally:
        close_bar()
