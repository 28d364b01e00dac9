"""Which cases ingest stores, and what the listing of a data set passes over."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets import CaseFiles, ListingError, list_cases
from pipeline.datasets.left_out import left_out
from pipeline.errors import Finding
from pipeline.settings import FurtherImage, Source, external_set

log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """What a data set lists."""

    usable: list[CaseFiles]
    faults: dict[str, list[str]]  # of the others, by case, or by an unknown's file
    aside: list[CaseFiles]  # of which the faults are; a plan counts and compares them, too


def listed_cases(
    source: Source,
    root: Path,
    further: Sequence[FurtherImage],
    results: Path | None = None,
    *,
    tell: bool = True,
) -> Listing:
    """The cases whose files fit together, and the others.

    What the listing passes over is logged if `tell`; below `results` lies nothing of it.

    Raises:
        PipelineError: the data set cannot be listed, or no case can be told apart.
    """
    found: Sequence[Finding] = ()
    try:
        files = list_cases(source.adapter, root, further, source.foreground, labels=source.labels)
    except ListingError as error:
        if not error.cases:
            raise
        files, found = error.cases, error.findings
    if tell:
        _tell_left_out(source, root, further, files, found, results)
    faults: dict[str, list[str]] = defaultdict(list)
    for finding in found:
        faults[finding.case or Path(finding.file).name].append(str(finding))
    # a case without a name has its fault under its file's
    usable = [case for case in files if case.case and case.case not in faults]
    aside = [case for case in files if not case.case or case.case in faults]
    return Listing(usable, dict(faults), aside)


def _tell_left_out(
    source: Source,
    root: Path,
    further: Sequence[FurtherImage],
    files: Sequence[CaseFiles],
    found: Sequence[Finding],
    results: Path | None,
) -> None:
    own = [case for case in files if not external_set(case.role)]
    passed = left_out(source, root, own, found, results)
    for each in further:
        if each.source:
            others = [case for case in files if case.role == each.role]
            passed += left_out(each.source, each.path, others, found, results)
    for finding in passed:
        log.log(logging.WARNING if finding.severity == "warning" else logging.INFO, "%s", finding)
