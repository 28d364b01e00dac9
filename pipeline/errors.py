"""The one error that a user's mistake raises."""

from __future__ import annotations

from pathlib import Path

from pipeline.findings import Finding


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
