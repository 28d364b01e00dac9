"""`PipelineError`, which a user's mistake raises, and the findings that it carries."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

log = logging.getLogger(__name__)
MACHINE_FAULTS = {
    errno.ENOSPC: "no space left; free some and run again, finished cases are kept",
    errno.EDQUOT: "disk quota reached; free some space and run again, finished cases are kept",
    errno.EFBIG: "the limit of a file's size is reached (ulimit -f); raise it and run again",
    errno.EACCES: "not permitted; make the folder writable or choose another `results` or --output",
    errno.EPERM: "not permitted; make the folder writable or choose another `results` or --output",
    errno.EROFS: "read-only file system; choose another `results` or --output",
    errno.ENOTDIR: "a file is where a folder is needed; choose another `results` or --output",
}


class PipelineError(Exception):
    """Faults in the input, the settings or the machine, one line each, and as records `findings`.

    A line names the case or key, the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, *faults: str | Finding) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.findings = tuple(
            fault if isinstance(fault, Finding) else Finding(fault) for fault in faults
        )


def file_fault(
    path: Path, found: str, expected: str = "", remedy: str = "", case: str = ""
) -> PipelineError:
    """The error for one faulty file or folder."""
    return PipelineError(Finding(found, expected, remedy, str(path), case))


def one_line(error: BaseException | str) -> str:
    """The text of another library's error on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]


def findings_of(error: Exception, file: Path, case: str) -> tuple[Finding, ...]:
    """What to tell of any error that one case's file has caused, so that the others go on.

    The whole traceback goes to the log at level DEBUG.

    Raises:
        OSError: the error itself, if it is one of `MACHINE_FAULTS`, which hits the others, too.
    """
    if isinstance(error, PipelineError):
        return error.findings
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
        raise error
    log.debug("case %s: %s", case, file, exc_info=error)
    text = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
    if isinstance(error, MemoryError) or "OutOfMemory" in text or "can't allocate memory" in text:
        found, remedy = f"memory is too small for it ({text})", "give more, or leave it out"
    else:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        at = "".join(f", {Path(frame.filename).name} line {frame.lineno}" for frame in place)
        found = f"cannot be used ({text}{at})"
        remedy = "export the file again; if it is sound, this is a fault of the program"
    return (Finding(found, "", remedy, str(file), case),)


# an error excludes its case or data set, a warning needs a look, a note is already handled
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know about a data set; what is not known is ""."""

    found: str  # the whole message where it comes from another library
    expected: str = ""
    remedy: str = ""  # what to do
    file: str = ""  # or folder
    case: str = ""  # "" for the data set as a whole
    severity: Severity = "error"

    @property
    def brief(self) -> str:
        """Case, file and what was found, on one line."""
        case = f"case {self.case}" if self.case else ""
        return ": ".join(filter(None, (case, self.file, self.found)))

    def __str__(self) -> str:
        expected = f", expected {self.expected}" if self.expected else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.brief}{expected}{remedy}"

    def as_json(self) -> dict[str, str]:
        """Every field, and the whole line as `text`; all values are strings."""
        names = ("severity", "case", "file", "found", "expected", "remedy")
        return {**{name: getattr(self, name) for name in names}, "text": str(self)}


@dataclass(frozen=True)
class Group:
    """Findings that differ only in case and file."""

    finding: Finding
    cases: list[str]
    files: list[str]


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Findings grouped by what they say: errors first, otherwise in the given order."""
    groups: dict[Finding, tuple[Finding, dict[str, None], dict[str, None]]] = {}
    for finding in findings:
        of = replace(finding, case="", file="")
        _, cases, files = groups.setdefault(of, (finding, {}, {}))
        for known, name in ((cases, finding.case), (files, finding.file)):
            if name:
                known[name] = None
    told = [Group(first, [*cases], [*files]) for first, cases, files in groups.values()]
    return sorted(told, key=lambda group: SEVERITIES.index(group.finding.severity))
