"""The cases of any layout as scans that nobody has labelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.datasets.cases import CASES_LABEL, LABEL_ALONE, CaseFiles
from pipeline.errors import Finding


def without_labels(cases: Iterable[CaseFiles]) -> list[CaseFiles]:
    """The cases as what none has a reference of; their groups stay."""
    return [replace(case, label=None, role="unlabelled", outside=(), notes=()) for case in cases]


def but_of_labels(faults: Sequence[Finding]) -> list[Finding]:
    """The faults that matter where labels are left aside."""
    labels = {LABEL_ALONE, CASES_LABEL}
    return [fault for fault in faults if not {fault.found, fault.expected} & labels]
