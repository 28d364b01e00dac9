"""What is found in a data set: one record per finding, and the line that tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
