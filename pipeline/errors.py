"""The one error that a user's mistake raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class PipelineError(Exception):
    """Faults in the input, the settings or the machine, each told in one line.

    A line names the case or key, the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with 1.

    Attributes:
        findings: the faults as records; of one given as text, `found` holds it all.
    """

    def __init__(self, *faults: str | Finding) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.findings = tuple(one if isinstance(one, Finding) else Finding(one) for one in faults)


def file_fault(path: Path, found: str, expected: str = "", remedy: str = "") -> PipelineError:
    """The error of one faulty file or folder."""
    return PipelineError(Finding(found, expected, remedy, file=str(path)))


def one_line(error: Exception | str) -> str:
    """The text of another library's error, shortened to fit in a line of ours."""
    return " ".join(str(error).split())[:200]


Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know of a data set.

    Attributes:
        found: what is there; all that is known where another library's reader only gives a text.
        expected: what should be there, or "".
        remedy: what to do, or "".
        file: path of the file or folder that it is about, or "".
        case: name of the case that it is about; "" for the data set as a whole.
        severity: an `error` keeps its case, or the data set, from being used; a `warning` is to be
            looked at; a `note` was handled and needs nothing.
    """

    found: str
    expected: str = ""
    remedy: str = ""
    file: str = ""
    case: str = ""
    severity: Severity = "error"

    @property
    def brief(self) -> str:
        """Case, file and what was found, in one line."""
        where = [f"case {self.case}"] if self.case else []
        return ": ".join([*where, *([self.file] if self.file else []), self.found])

    def __str__(self) -> str:
        expected = f", expected {self.expected}" if self.expected else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.brief}{expected}{remedy}"

    def as_json(self) -> dict[str, str]:
        """Every field and the whole line, `text`; all are strings."""
        names = ("severity", "case", "file", "found", "expected", "remedy")
        return {**{name: getattr(self, name) for name in names}, "text": str(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """What `as_json` gave."""
        return cls(**{name: value for name, value in content.items() if name != "text"})


@dataclass(frozen=True)
class Group:
    """Findings that differ in nothing but their case and file."""

    finding: Finding
    cases: list[str]
    files: list[str]


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Alike findings together, errors first, else in the order given."""
    groups: dict[tuple[str, ...], Group] = {}
    for one in findings:
        key = (one.severity, one.found, one.expected, one.remedy)
        group = groups.setdefault(key, Group(one, [], []))
        for known, name in ((group.cases, one.case), (group.files, one.file)):
            if name and name not in known:
                known.append(name)
    return sorted(groups.values(), key=lambda one: SEVERITIES.index(one.finding.severity))
