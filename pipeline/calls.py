"""A call of snakemake: what it finds before it plans, and what it leaves for the next one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from pipeline.claims import CALL, Claim, claim_call, claims, forget_stopped, release_call
from pipeline.last_run import code_now, edited_code, look_again, note_code, note_recorded
from pipeline.layout import Layout
from pipeline.manifests import withdraw_untrue

RECORDS = Path(".snakemake")  # Snakemake's own, in the working directory


class Call:
    """One call on several data sets.

    Args:
        layouts: the results of the data sets that the call may work on.
    """

    def __init__(self, layouts: Collection[Layout]) -> None:
        self._layouts = layouts
        self._code = code_now()
        self._new = [layout for layout in layouts if not layout.cases.exists()]
        self._claimed: list[IO[str]] = []

    def before_plan(self) -> Iterator[str]:
        """Put manifests right that are no longer true, and tell what was found.

        A data set on which something else works is left as it is.

        Raises:
            PipelineError: a store of a shared folder is damaged.
        """
        stopped: list[Claim] = []
        for layout in self._layouts:
            found = claims(layout)
            running = [one for one in found if one.alive]
            for one in running:
                what = "another call works on it" if one.work == CALL else f"{one.work} still runs"
                yield f"{layout.dataset}: {what} ({one.who}); planned as it stands"
            stopped += [one for one in found if not one.alive and one.work != CALL]
            if line := edited_code(layout, self._code):
                yield line
            if running:
                continue
            yield from withdraw_untrue(layout)
            if look_again(layout, RECORDS):
                yield (
                    f"{layout.dataset}: its results were not recorded in this working directory; "
                    "every stage looks at them once, and makes only what is missing"
                )
        if stopped:
            works = ", ".join(f"{one.dataset} {one.work}" for one in stopped)
            yield f"stopped half-way, and now taken up where it stood: {works}"

    def begin(self) -> None:
        """Claim the data sets; their claims end with this process.

        Raises:
            PipelineError: another call works on one of them.
        """
        self._claimed = [claim_call(layout) for layout in self._layouts]
        for layout in self._layouts:
            if not layout.last_run.exists():
                note_code(layout, self._code)
        for layout in self._new:
            note_recorded(layout, RECORDS)

    def end(self) -> None:
        """Note that all is made, after a call without a failure."""
        for layout in self._layouts:
            forget_stopped(layout)
            note_code(layout, self._code)
            note_recorded(layout, RECORDS)
        for file in self._claimed:
            release_call(file)
