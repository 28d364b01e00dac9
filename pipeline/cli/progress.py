"""How far a command is: a bar on a terminal's stderr, and what it prints in spite of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.cli.terminal import draws_bars


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints one finished item's line, none if it is "", and counts it.

    The bar, with the time left, is only on a terminal; it has no colours where NO_COLOR is set.
    """
    if not draws_bars():
        yield _print
        return
    # imported here: help needs none
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    left, passed = TextColumn("left,"), TextColumn("passed")
    columns = (BarColumn(), MofNCompleteColumn(), Remaining(), left, Elapsed(), passed)
    screen = sys.stderr
    # lines of stdout go through the bar only where they would be written over it
    shown = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
    with shown as bar:
        task = bar.add_task("", total=total)

        def tell(line: str) -> None:
            _print(line)
            bar.advance(task)

        logs = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is screen
        ]
        for handler in logs:
            handler.setStream(
                sys.stderr
            )  # which rich has replaced by one that leaves the bar whole
        try:
            yield tell
        finally:
            for handler in logs:
                handler.setStream(screen)


def _print(line: str) -> None:
    if line:
        # not by click, which would write past rich's stream and so into the bar
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
