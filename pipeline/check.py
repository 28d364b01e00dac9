"""`grcsf check`: all that is wrong with a data set, and what it is like, before any stage runs.

Every case is read once, whole, a few at a time; the checks are ingest's own. What is found lies in
`results/<dataset>/check/`: `check.json`, and `check.html` to read and to pass on.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dask

from pipeline.case_facts import CaseFacts, case_facts, case_from_json
from pipeline.datasets import CaseFiles, ListingError, list_cases
from pipeline.datasets.left_out import left_out
from pipeline.doubts import disk_doubts, spacing_doubts, twin_doubts
from pipeline.errors import PipelineError
from pipeline.findings import SEVERITIES, Finding
from pipeline.layout import Layout
from pipeline.needs import disk_needed, memory_needed
from pipeline.settings import Dataset, Resources
from pipeline.stores import read_json, write_json

VERSION = 2  # of check.json's form
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        dataset: its name.
        cases: all that were read.
        findings: errors first, then warnings, then notes.
        disk: bytes by kind of result.
        memory: bytes at the peak, by training.
        free: bytes free where the results will lie.
    """

    dataset: str
    cases: list[CaseFacts]
    findings: list[Finding]
    disk: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    free: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        counted = Counter(one.severity for one in self.findings)
        return {severity: counted[severity] for severity in SEVERITIES}

    @property
    def errors(self) -> int:
        """How many findings keep a case, or the data set, from being used."""
        return self.counts["error"]

    @property
    def usable(self) -> list[CaseFacts]:
        """The cases without error."""
        refused = {one.case for one in self.findings if one.severity == "error"}
        return [one for one in self.cases if one.case not in refused]


def check(
    layout: Layout, dataset: Dataset, root: Path, further: Sequence[Path], resources: Resources
) -> Check:
    """Read every case, write what was found as `check.json`, and return it.

    What is wrong with the listing (no case, a case twice, a label without image) is among the
    findings; the cases that can be told apart are read all the same.

    Raises:
        PipelineError: the phantoms that the configuration asks for are not written yet.
    """
    if dataset.source.phantom and not root.is_dir():
        raise PipelineError(
            f"{root}: the phantoms are not written yet; run snakemake with this configuration, or "
            f"grcsf phantom {dataset.source.phantom.kind} {root}"
        )
    files, findings = _listed(dataset, root, further)
    jobs = [dask.delayed(case_facts)(one, dataset) for one in files]
    read = dask.compute(*jobs, scheduler="threads", num_workers=resources.threads)
    cases = [facts for facts, _ in read]
    findings += [one for _, found in read for one in found]
    usable = Check(layout.dataset, cases, findings).usable
    findings += spacing_doubts([(one.case, one.spacing) for one in usable if one.spacing])
    findings += twin_doubts([(one.case, one.voxel_digest) for one in usable if one.voxel_digest])
    disk = disk_needed(dataset, usable) if usable else {}
    memory = memory_needed(dataset, usable, resources) if usable else {}
    free = shutil.disk_usage(_existing(layout.root)).free
    findings += disk_doubts(sum(disk.values()), free)
    findings.sort(key=lambda one: SEVERITIES.index(one.severity))
    found = Check(layout.dataset, cases, findings, disk, memory, free)
    write_check(layout, found)
    return found


def write_check(layout: Layout, found: Check) -> None:
    """Write `check.json`, which `read_check` reads again."""
    content = {
        "version": VERSION,
        "dataset": found.dataset,
        "counts": found.counts,
        "findings": [one.as_json() for one in found.findings],
        "disk_bytes": found.disk,
        "memory_bytes": found.memory,
        "free_bytes": found.free,
        "cases": [asdict(one) for one in found.cases],
        "outputs": [],
    }
    write_json(layout.check(".json"), content)


def read_check(layout: Layout) -> Check | None:
    """What the last check found; None if there was none, or one of another version.

    Raises:
        PipelineError: `check.json` is damaged.
    """
    path = layout.check(".json")
    if not path.exists():
        return None
    content = read_json(path)
    if content.get("version") != VERSION:
        log.info("%s is of another version; run grcsf check again", path)
        return None
    return Check(
        content["dataset"],
        [case_from_json(one) for one in content["cases"]],
        [Finding.from_json(one) for one in content["findings"]],
        content["disk_bytes"],
        content["memory_bytes"],
        content["free_bytes"],
    )


def _listed(
    dataset: Dataset, root: Path, further: Sequence[Path]
) -> tuple[list[CaseFiles], list[Finding]]:
    """The cases, and what is wrong with their listing or was left out of it."""
    adapter = dataset.source.adapter
    try:
        files, findings = list_cases(adapter, root, further), []
    except ListingError as error:
        files, findings = error.cases, list(error.findings)
    except PipelineError as error:
        return [], list(error.findings)
    unlabelled = sum(one.label is None and one.role == "unlabelled" for one in files)
    if unlabelled:
        told = f"{unlabelled} of {len(files)} cases without reference: predicted, not scored"
        findings.append(Finding(told, severity="note"))
    return files, [*findings, *left_out(adapter, root)]


def _existing(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
