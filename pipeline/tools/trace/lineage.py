"""The jobs that lead to a result, and the state of the files between them."""

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
    """A file on the way, and how it compares with its record."""

    file: str  # relative to the results, or absolute
    sha256: str | None  # as recorded
    state: State  # "not read": it exists, but was not compared
    case: str = ""  # of a raw file

    @property
    def holds(self) -> bool:
        """Whether the file exists and does not differ from its record."""
        return self.state in HOLDS


@dataclass
class Step:
    """One job of the chain."""

    record: str  # relative to the results
    content: Mapping[str, Any]  # of the record
    results: list[Link] = field(default_factory=list)
    inputs: list[Link] = field(default_factory=list)  # earlier results
    raw: list[Link] = field(default_factory=list)  # raw files, or public checkpoints
    sources: list[str] = field(default_factory=list)  # records; none leads to another

    @property
    def links(self) -> list[Link]:
        """All files of the step."""
        return [*self.results, *self.inputs, *self.raw]

    @property
    def made(self) -> tuple[str, Mapping[str, Any]]:
        """Key (start time) and content of the last run that made one of the results."""
        runs: Mapping[str, Any] = self.content["runs"]
        made = {result["run"] for result in self.content["results"].values()} & set(runs)
        key = max(made, default=max(runs))
        return key, runs[key]


@dataclass
class Chain:
    """All jobs that lead to a result; `steps` begins with the job that made it."""

    root: Path  # of all results
    case: str  # the patient that it follows, or ""
    quick: bool  # whether large files are not compared
    only: tuple[str, ...]  # experiments that it follows; all, if empty
    asked: str = ""  # the path of the result, as in its link
    tell: Callable[[str], object] = str  # called with each file before it is compared
    steps: dict[str, Step] = field(default_factory=dict)  # by record

    @property
    def first(self) -> Step:
        """The job that made the result."""
        return next(iter(self.steps.values()))

    @property
    def links(self) -> list[Link]:
        """All files of all jobs; a file that several jobs read is there several times."""
        return [link for step in self.steps.values() for link in step.links]

    @property
    def broken(self) -> list[Link]:
        """The links that do not hold, each once."""
        return list(dict.fromkeys(link for link in self.links if not link.holds))
