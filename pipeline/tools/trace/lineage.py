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
    """A file on the way, and how it compares with its record.

    Attributes:
        file: its path, relative to the results or absolute.
        sha256: the recorded digest, or None.
        state: how it compares; a file that is "not read" exists, but was not compared.
        case: the case of a raw file, or "".
    """

    file: str
    sha256: str | None
    state: State
    case: str = ""

    @property
    def holds(self) -> bool:
        """Whether the file exists and does not differ from its record."""
        return self.state in HOLDS


@dataclass
class Step:
    """One job of the chain.

    Attributes:
        record: the job's record, relative to the results.
        content: the content of the record.
        results: the files that the job made.
        inputs: the earlier results that it read.
        raw: the raw files, or public checkpoints, that it read.
        sources: records of the jobs right before it: none of them leads to another.
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
        """Key (start time) and content of the last run that made one of the results."""
        runs: Mapping[str, Any] = self.content["runs"]
        made = {result["run"] for result in self.content["results"].values()} & set(runs)
        key = max(made, default=max(runs))
        return key, runs[key]


@dataclass
class Chain:
    """All jobs that lead to a result; `steps` begins with the job that made it.

    Attributes:
        root: the folder of all results.
        case: the patient that the chain follows, or "".
        quick: whether large files are not compared.
        only: the experiments that the chain follows; all, if empty.
        asked: the path of the result, as in its link.
        tell: called with each file before it is compared.
        steps: record → job.
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
