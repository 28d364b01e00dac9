"""The jobs that lead to a result, and what is known of the files between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal[
    "as recorded", "not read", "differs", "gone", "no record", "no record of its content"
]
HOLDS = ("as recorded", "not read")


@dataclass(frozen=True)
class Link:
    """A file on the way, and whether it still is the one that its record tells of.

    Attributes:
        file: its path, relative to the results or absolute.
        sha256: as recorded; None where the record has none.
        state: "not read" is there, but was not compared.
        case: whose raw file it is, or "".
    """

    file: str
    sha256: str | None
    state: State
    case: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return self.state in HOLDS


@dataclass
class Step:
    """One job of the chain.

    Attributes:
        record: the job's record, relative to the results.
        content: what the record says.
        results: what the job made.
        inputs: the earlier results that it read.
        raw: the raw files, or public checkpoints, that it read.
        sources: records of the jobs before it; of two that follow each other only the later.
    """

    record: str
    content: Mapping[str, Any]
    results: list[Link] = field(default_factory=list)
    inputs: list[Link] = field(default_factory=list)
    raw: list[Link] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    @property
    def links(self) -> list[Link]:
        """All files of the step."""
        return [*self.results, *self.inputs, *self.raw]

    @property
    def made(self) -> tuple[str, Mapping[str, Any]]:
        """When the run began that made the results, the last of several, and what it says."""
        runs: Mapping[str, Any] = self.content["runs"]
        made = {one["run"] for one in self.content["results"].values()} & set(runs)
        key = max(made, default=max(runs))
        return key, runs[key]


@dataclass
class Chain:
    """All jobs that lead to a result, by their records; `steps` begins with its own.

    Attributes:
        root: the folder of all results.
        case: the patient in question, or "".
        quick: whether contents are left unread.
        only: experiments that are followed; all, if empty.
        asked: the file or store in question, as its link has it.
        tell: called with each file before it is compared.
        steps: by record.
    """

    root: Path
    case: str
    quick: bool
    only: tuple[str, ...]
    asked: str = ""
    tell: Callable[[str], object] = str
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def first(self) -> Step:
        """The job that made the result in question."""
        return next(iter(self.steps.values()))

    @property
    def links(self) -> list[Link]:
        """All files of all steps; one that several jobs have read is there for each."""
        return [link for step in self.steps.values() for link in step.links]

    @property
    def broken(self) -> list[Link]:
        """Links that do not hold, each once."""
        return list(dict.fromkeys(link for link in self.links if not link.holds))
