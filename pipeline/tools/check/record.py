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
    """One case; sizes are None where the image or the label could not be read.

    Attributes:
        case: its name.
        group: cohort, hospital or vendor.
        role: the role that the data set itself gives it, or "".
        labelled: whether it has a reference.
        fingerprint: the fingerprint of its case store: its files, and how they are read.
        shape: voxels (z, y, x).
        spacing: mm (z, y, x).
        quantiles: of the voxels above the image's minimum, in the source's units.
        empty_slices: how many slices are constant.
        voxel_digest: SHA-256 of the image's voxels, whatever file they lie in.
        lesions: 3D 6-connected components of the reference.
        each_lesion_voxels: voxels of each lesion, in scan order.
        each_lesion_mm3: the same in mm³.
        lesion_voxels: voxels of all lesions.
        lesion_ml: the same in ml.
        lesion_slices: how many slices have lesion.
        store_bytes: estimated size of the case store.
        map_bytes: estimated size of one residual map.
    """

    case: str
    group: str
    role: str
    labelled: bool
    fingerprint: str | None = None
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    quantiles: dict[str, float] = field(default_factory=dict)
    empty_slices: int | None = None
    voxel_digest: str | None = None
    lesions: int | None = None
    each_lesion_voxels: list[int] = field(default_factory=list)
    each_lesion_mm3: list[float] = field(default_factory=list)
    lesion_voxels: int | None = None
    lesion_ml: float | None = None
    lesion_slices: int | None = None
    store_bytes: int | None = None
    map_bytes: int | None = None


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        dataset: its name.
        cases: every case that was read.
        findings: errors first, then warnings, then notes.
        disk: bytes by kind of result.
        free: bytes free where the results will lie.
    """

    dataset: str
    cases: list[CaseFacts]
    findings: list[Finding]
    disk: dict[str, int] = field(default_factory=dict)
    free: int = 0

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
