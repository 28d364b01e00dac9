"""A call of snakemake: what it finds before it plans, and what it leaves for the next one.

Planning writes nothing, so several calls may plan at once. Files are repaired under the locks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.errors import PipelineError
from pipeline.orchestration import changed_results as results
from pipeline.orchestration.environment import source_state
from pipeline.orchestration.given_back import left
from pipeline.orchestration.last_run import changed_code, note_code, note_recorded, unrecorded
from pipeline.orchestration.locks import (
    CALL,
    Lock,
    clear_stopped,
    list_locks,
    lock_dataset,
    release,
)
from pipeline.storage.folders import note_is_lost, write_note
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import note_touched, source_changes


@dataclass(frozen=True)
class Planned:
    """A job of a call's plan: its `work` as in `locks.Lock`, and the files that it declares."""

    dataset: str
    work: str
    outputs: frozenset[Path]
    due: bool  # whether it has to run


@dataclass(frozen=True)
class Plan:
    """All jobs of a call, also those that need not run."""

    jobs: Collection[Planned]
    whole: bool  # whether they are all that the configuration has results of

    def works(self, dataset: str) -> set[str]:
        """What the plan covers of a data set."""
        return {job.work for job in self.jobs if job.dataset == dataset}

    def made(self, dataset: str) -> set[Path]:
        """What the plan makes, or looks at, of a data set."""
        jobs = (job.outputs for job in self.jobs if job.dataset == dataset and job.due)
        return set().union(*jobs)


class Call:
    """One call on several data sets.

    `fed` gives the manifests of a data set's jobs that, like ingest, read what no stage has made.
    """

    def __init__(
        self, layouts: Collection[Layout], fed: Callable[[Layout], Collection[Path]]
    ) -> None:
        self.due: set[Path] = set()  # manifests whose jobs run, whatever Snakemake thinks of them
        self._layouts = layouts
        self._fed = fed
        self._code = source_state()
        self._changed: list[Path] = []
        self._postponed: list[Callable[[], None]] = []  # until the data sets are locked
        self._locks: list[IO[str]] = []

    def check(self) -> Iterator[str]:
        """Find what is outdated, and report it in lines; what others work on counts as it stands.

        Raises:
            PipelineError: a store of a shared folder is damaged, or a file is not readable.
        """
        yield from changed_code(self._layouts, self._code)
        stopped: list[Lock] = []
        for layout in self._layouts:
            locks = list_locks(layout)
            running = {lock.work for lock in locks if lock.alive}
            yield from (_running_line(lock) for lock in locks if lock.alive)
            stopped += _stopped_stages(locks)
            if CALL not in running:
                yield from self._check_folders(layout)
                yield from self._check_results(layout, running)
                yield from self._check_sources(layout, running)
                yield from self._check_recorded(layout, running)
                self.due.update(left(layout))
        if stopped:
            yield f"stopped half-way: {_names(stopped)}"

    def lock(self) -> None:
        """Lock the data sets until this process ends.

        Raises:
            PipelineError: another call works on one of them.
        """
        self._locks = [lock_dataset(layout) for layout in self._layouts]
        for layout in self._layouts:
            if not layout.last_run.exists():
                note_code(layout, self._code)

    def prepare(self, plan: Plan) -> Iterator[str]:
        """Make ready what the jobs of a plan will find, after `lock`, and report it."""
        for layout in self._layouts:
            if plan.made(layout.dataset):
                note_recorded(layout)
        due = {(job.dataset, job.work) for job in plan.jobs if job.due}
        stopped = _stopped_stages(lock for layout in self._layouts for lock in list_locks(layout))
        if again := [lock for lock in stopped if (lock.dataset, lock.work) in due]:
            yield f"taken up where it stood: {_names(again)}"
        yield from self._repair(plan)

    def finish(self, plan: Plan, last: Callable[[], Iterable[str]] = tuple) -> Iterator[str]:
        """Note that all of a plan is made, after a call without a failure; `last` tidies up."""
        if not self._locks:  # nothing was to be done, so nothing has begun
            try:
                self.lock()
            except PipelineError:
                return  # the other call notes what it works on
            yield from self._repair(plan)
        yield from last()
        for layout in self._layouts:
            clear_stopped(layout, None if plan.whole else plan.works(layout.dataset))
            if plan.whole:
                note_code(layout, self._code)
            if made := plan.made(layout.dataset):
                # a second mark, as the results may have been copied meanwhile
                note_recorded(layout, made)
        while self._locks:
            release(self._locks.pop())

    def _check_folders(self, layout: Layout) -> Iterator[str]:
        note = layout.by_digest
        if note_is_lost(note, layout.stage("ingest")):
            self._postponed.append(partial(write_note, note))
            yield f"{layout.dataset}: {note}: not there, though stores lie by digest; written anew"

    def _check_results(self, layout: Layout, running: Collection[str]) -> Iterator[str]:
        for result in results.changed_results(layout, running):
            self._postponed.append(partial(results.restore_times, result))
            if result.messages:
                self._changed.append(result.manifest)
                self.due.add(result.manifest)
            yield from result.messages

    def _check_sources(self, layout: Layout, running: Collection[str]) -> Iterator[str]:
        fed = {layout.work_of(path): path for path in self._fed(layout)}
        for work, manifest in {"ingest": layout.cases, **fed}.items():
            if work in running or not manifest.exists():
                continue
            note = layout.sources(work)
            files, touched, unknown = source_changes(note)
            if unknown:
                self.due.add(manifest)
                yield f"{layout.dataset}: {note}: damaged; {work} looks at its files once more"
            if touched:
                self._postponed.append(partial(note_touched, note, touched))
            if files:
                self.due.add(manifest)
                further = f" and {len(files) - 1} more" if len(files) > 1 else ""
                yield f"{layout.dataset}: replaced since {work} read it: {files[0]}{further}"

    def _check_recorded(self, layout: Layout, running: Collection[str]) -> Iterator[str]:
        unknown = unrecorded(layout)
        self.due.update(path for path in unknown if layout.work_of(path) not in running)
        if layout.cases in unknown:
            fault = "its results were not recorded in this working directory"
            remedy = "every stage looks at them once, and makes only what is missing"
            yield f"{layout.dataset}: {fault}; {remedy}"

    def _repair(self, plan: Plan) -> Iterator[str]:
        for write in self._postponed:
            write()
        due = {path: job.due for job in plan.jobs for path in job.outputs}
        for manifest in self._changed:
            if due.get(manifest):
                yield from results.set_aside(manifest)
            elif plan.whole and manifest not in due:  # of an experiment that is no longer there
                yield from results.withdraw(manifest)


def _running_line(lock: Lock) -> str:
    if lock.work == CALL:
        return f"{lock.dataset}: another call works on it ({lock.who}); planned as it stands"
    return f"{lock.dataset}: {lock.work} still runs ({lock.who}); what it makes is left to it"


def _stopped_stages(locks: Iterable[Lock]) -> list[Lock]:
    return [lock for lock in locks if not lock.alive and lock.work != CALL]


def _names(locks: Iterable[Lock]) -> str:
    return ", ".join(f"{lock.dataset} {lock.work}" for lock in locks)
