"""A call of snakemake: what it finds before it plans, and what it leaves for the next one.

Looking changes no result: a plan may be asked for at any time, of any results, by several calls at
once. What is not true is only told, and its job is due; what has to be set right on the disk is,
once the data sets are claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import PipelineError
from pipeline.orchestration.changed_results import changed_results, set_aside, withdraw
from pipeline.orchestration.last_run import (
    changed_code,
    code_now,
    note_code,
    note_recorded,
    unrecorded,
)
from pipeline.orchestration.locks import (
    CALL,
    Lock,
    clear_stopped,
    list_locks,
    lock_dataset,
    unlock_dataset,
)
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import replaced_sources

RECORDS = Path(".snakemake")  # Snakemake's own, in the working directory


@dataclass(frozen=True)
class Planned:
    """A job of a call's plan.

    Attributes:
        dataset: of which data set.
        work: its stage and names, as in `claims.Claim`.
        outputs: the files that it declares.
        due: whether it has to run.
    """

    dataset: str
    work: str
    outputs: frozenset[Path]
    due: bool


@dataclass(frozen=True)
class Plan:
    """All jobs of a call, those that need not run among them.

    Attributes:
        jobs: of all data sets.
        whole: whether they are all that the configuration has results of.
    """

    jobs: Collection[Planned]
    whole: bool

    def works(self, dataset: str) -> set[str]:
        """What the plan covers of a data set."""
        return {one.work for one in self.jobs if one.dataset == dataset}

    def made(self, dataset: str) -> set[Path]:
        """What the plan makes, or looks at, of a data set."""
        jobs = (one for one in self.jobs if one.dataset == dataset and one.due)
        return {path for one in jobs for path in one.outputs}


class Call:
    """One call on several data sets.

    Args:
        layouts: the results of the data sets that the call may work on.
        pretrained: of each data set, the MAEs that start from given weights.

    Attributes:
        due: manifests whose jobs have to run, whatever Snakemake thinks of them.
    """

    def __init__(
        self, layouts: Collection[Layout], pretrained: Mapping[str, Collection[str]]
    ) -> None:
        self.due: set[Path] = set()
        self._layouts = layouts
        self._pretrained = pretrained
        self._code = code_now()
        self._changed: list[Path] = []
        self._claimed: list[IO[str]] = []

    def check(self) -> Iterator[str]:
        """Find what is no longer true, and tell of it; nothing is changed.

        A data set on which another call works is planned as it stands, and so is what a stage makes
        that has outlived its call.

        Raises:
            PipelineError: a store of a shared folder is damaged, or a file is not readable.
        """
        if line := changed_code(self._layouts, self._code):
            yield line
        stopped: list[Lock] = []
        for layout in self._layouts:
            found = list_locks(layout)
            running = {one.work for one in found if one.alive}
            yield from (_of_running(one) for one in found if one.alive)
            stopped += _stopped(found)
            if CALL not in running:
                yield from self._look_at(layout, running)
        if stopped:
            yield f"stopped half-way: {_told(stopped)}"

    def lock(self) -> None:
        """Claim the data sets; their claims end with this process.

        Raises:
            PipelineError: another call works on one of them.
        """
        self._claimed = [lock_dataset(layout) for layout in self._layouts]
        for layout in self._layouts:
            if not layout.last_run.exists():
                note_code(layout, self._code)

    def prepare(self, plan: Plan) -> Iterator[str]:
        """Make ready what the jobs of a claimed plan will find, and tell of it."""
        for layout in self._layouts:
            if plan.made(layout.dataset):
                note_recorded(layout, RECORDS)
        due = {(one.dataset, one.work) for one in plan.jobs if one.due}
        stopped = [one for layout in self._layouts for one in _stopped(list_locks(layout))]
        if again := [one for one in stopped if (one.dataset, one.work) in due]:
            yield f"taken up where it stood: {_told(again)}"
        yield from self._set_right(plan)

    def finish(self, plan: Plan) -> Iterator[str]:
        """Note that all of a plan is made, after a call without a failure."""
        if not self._claimed:  # nothing was to be done, so nothing has begun
            try:
                self.lock()
            except PipelineError:
                return  # what another call works on is not ours to note
            yield from self._set_right(plan)
        for layout in self._layouts:
            clear_stopped(layout, None if plan.whole else plan.works(layout.dataset))
            if plan.whole:
                note_code(layout, self._code)
            if made := plan.made(layout.dataset):
                # anew, as the results may have been copied meanwhile
                note_recorded(layout, RECORDS, made)
        while self._claimed:
            unlock_dataset(self._claimed.pop())

    def _look_at(self, layout: Layout, running: Collection[str]) -> Iterator[str]:
        for one in changed_results(layout, running):
            self._changed.append(one.manifest)
            self.due.add(one.manifest)
            yield from one.told
        for work, manifest in self._given_files(layout):
            if work not in running and (files := replaced_sources(layout.sources(work))):
                self.due.add(manifest)
                further = f" and {len(files) - 1} more" if len(files) > 1 else ""
                yield f"{layout.dataset}: replaced since {work} read it: {files[0]}{further}"
        unknown = unrecorded(layout, RECORDS)
        self.due.update(path for path in unknown if layout.work_of(path) not in running)
        if layout.cases in unknown:
            yield (
                f"{layout.dataset}: its results were not recorded in this working directory; "
                "every stage looks at them once, and makes only what is missing"
            )

    def _given_files(self, layout: Layout) -> Iterator[tuple[str, Path]]:
        """The jobs that read files which no stage has made, with their manifests, as far as made.

        An MAE that started from weights once may be trained from none by now.
        """
        jobs = {"ingest": layout.cases}
        for name in self._pretrained[layout.dataset]:
            jobs[f"train_mae {name}"] = layout.mae(name)
        yield from ((work, manifest) for work, manifest in jobs.items() if manifest.exists())

    def _set_right(self, plan: Plan) -> Iterator[str]:
        made = {path for one in plan.jobs for path in one.outputs}
        due = {path for one in plan.jobs if one.due for path in one.outputs}
        for manifest in self._changed:
            if manifest in due:
                yield from set_aside(manifest)
            elif plan.whole and manifest not in made:  # of an experiment that is no longer there
                yield from withdraw(manifest)


def _of_running(one: Lock) -> str:
    if one.work == CALL:
        return f"{one.dataset}: another call works on it ({one.who}); planned as it stands"
    return f"{one.dataset}: {one.work} still runs ({one.who}); what it makes is left to it"


def _stopped(found: Iterable[Lock]) -> list[Lock]:
    return [one for one in found if not one.alive and one.work != CALL]


def _told(stopped: Iterable[Lock]) -> str:
    return ", ".join(f"{one.dataset} {one.work}" for one in stopped)
