"""The record of a check: what each case is like, and every finding, as `check.json`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field

from pipeline.errors import SEVERITIES, Finding
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout

VERSION = 3  # of check.json's form


@dataclass(frozen=True)
class CaseFacts:
    """One case; sizes are None where the image or the label could not be read."""

    case: str
    group: str  # cohort, hospital or vendor
    role: str  # given by the data set itself, or ""
    labelled: bool  # has a reference
    fingerprint: str | None = None  # of its case store
    shape: tuple[int, int, int] | None = None  # voxels (z, y, x)
    spacing: tuple[float, float, float] | None = None  # mm (z, y, x)
    quantiles: dict[str, float] = field(default_factory=dict)  # of the voxels above the minimum
    empty_slices: int | None = None  # constant ones
    voxel_digest: str | None = None  # SHA-256 of the image's voxels, whatever file they lie in
    lesions: int | None = None  # 3D 6-connected components of the reference
    each_lesion_voxels: list[int] = field(default_factory=list)  # in scan order
    each_lesion_mm3: list[float] = field(default_factory=list)  # in scan order
    lesion_voxels: int | None = None  # of all lesions
    lesion_ml: float | None = None
    lesion_slices: int | None = None  # slices with lesion
    store_bytes: int | None = None  # of the case store, estimated
    map_bytes: int | None = None  # of one residual map, estimated


@dataclass(frozen=True)
class Check:
    """The result of a check."""

    dataset: str
    cases: list[CaseFacts]
    findings: list[Finding]  # errors first, then warnings, then notes
    disk: dict[str, int] = field(default_factory=dict)  # bytes by kind of result
    free: int = 0  # bytes free where the results will lie

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        counted = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in SEVERITIES}

    @property
    def errors(self) -> int:
        """How many findings keep a case, or the data set, from being used."""
        return self.counts["error"]

    @property
    def usable(self) -> list[CaseFacts]:
        """The cases without error."""
        refused = {finding.case for finding in self.findings if finding.severity == "error"}
        return [case for case in self.cases if case.case not in refused]


def write_check(layout: Layout, check: Check) -> None:
    """Write `check.json`."""
    content = {
        "version": VERSION,
        "dataset": check.dataset,
        "counts": check.counts,
        "findings": [finding.as_json() for finding in check.findings],
        "disk_bytes": check.disk,
        "free_bytes": check.free,
        "cases": [asdict(case) for case in check.cases],
        "outputs": [],
    }
    write_json(layout.check(".json"), content)
