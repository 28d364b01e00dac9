"""What a command tells on stderr: its log, how much of it, and on a terminal how far it is.

A stage tells how far it is by a record of its log with `done` and `of`, such as
`log.debug("%s", case, extra={"done": 3, "of": 40})`. On a terminal it becomes a bar with the time
left, elsewhere a line if it is of level INFO, so that no log holds a bar.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET, USUAL, VERBOSE = logging.WARNING, logging.INFO, logging.DEBUG


class TerminalLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to stderr, and keeps one bar below them where records say how far a job is."""

    def __init__(self, level: int, *, bars: bool) -> None:
        super().__init__(sys.stderr)
        self._shown = level
        self._bars = bars
        self._bar: Progress | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or move the bar on."""
        if self._bars and getattr(record, "of", 0) > 1:
            self._move(record.getMessage(), record.done, record.of)  # type: ignore[attr-defined]
        elif record.levelno >= self._shown:
            with self.aside():
                super().emit(record)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something else is written; other threads wait."""
        self.acquire()
        bar = self._bar
        if bar is not None:
            bar.stop()
        try:
            yield
        finally:
            if bar is not None:
                bar.start()
            self.release()

    def _move(self, text: str, done: int, of: int) -> None:
        begins = self._bar is None
        if self._bar is None:
            self._bar = _new_bar()
            self._bar.add_task("")
        self._bar.update(self._bar.task_ids[0], description=text, completed=done, total=of)
        if begins:  # as late as this, or it would first show 0 of 100
            self._bar.start()
        if done >= of:
            self.close_bar()

    def close_bar(self) -> None:
        """Take the bar away for good; the next record begins another."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _new_bar() -> Progress:
    # imported here: jobs of a workflow, which have no terminal, do without
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}", markup=False)  # names may hold brackets
    # what a command was asked to print stays on stdout
    return Progress(
        *columns,
        text,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


_level = USUAL


def choose_level(*, quiet: bool, verbose: bool) -> None:
    """How much every further log tells: `quiet` only warnings, `verbose` all there is."""
    global _level
    _level = QUIET if quiet else VERBOSE if verbose else USUAL
    log_lines()


def draws_bars() -> bool:
    """Whether this command may draw on stderr: it is a terminal, and nobody asked for quiet.

    One that moves no cursor would get an empty line with every line of the log.
    """
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and _level != QUIET


def log_lines(dataset: str = "") -> None:
    """Start every line of the log with the time and, if given, the data set."""
    about = f"{dataset}: " if dataset else ""
    bars = draws_bars()
    handler = TerminalLog(_level, bars=bars)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {about}%(message)s", "%H:%M:%S"))
    logging.basicConfig(level=max(_level, USUAL), handlers=[handler], force=True)
    # a bar moves on records that no line is made of; other libraries' details are of no use
    detailed = bars or _level == VERBOSE
    logging.getLogger("pipeline").setLevel(VERBOSE if detailed else logging.NOTSET)


@contextmanager
def beside_bar() -> Iterator[None]:
    """Print something without the bar in its way."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, TerminalLog)]
    if not handlers:
        yield
        return
    with handlers[0].aside():
        yield


def close_bar() -> None:
    """Take the bar away, so that an error is told on a line of its own."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TerminalLog):
            handler.close_bar()
