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
        role: what the data set itself makes of it, or "".
        labelled: whether it has a reference.
        fingerprint: of its files and how they are read, as its case store has it.
        shape: voxels (z, y, x).
        spacing: mm (z, y, x).
        quantiles: of the voxels above the image's minimum, in the source's units.
        empty_slices: constant ones.
        voxel_digest: SHA-256 of the image's voxels, whatever file they lie in.
        lesions: 3D 6-connected components of the reference.
        each_lesion_voxels: of every one, in scan order.
        each_lesion_mm3: the same in mm³.
        lesion_voxels: of all of them.
        lesion_ml: the same in ml.
        lesion_slices: slices with lesion.
        store_bytes: what the case store will take, about.
        map_bytes: what one residual map will take, about.
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
    """What was found.

    Attributes:
        dataset: its name.
        cases: all that were read.
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


def write_check(layout: Layout, found: Check) -> None:
    """Write `check.json`."""
    content = {
        "version": VERSION,
        "dataset": found.dataset,
        "counts": found.counts,
        "findings": [one.as_json() for one in found.findings],
        "disk_bytes": found.disk,
        "free_bytes": found.free,
        "cases": [asdict(one) for one in found.cases],
        "outputs": [],
    }
    write_json(layout.check(".json"), content)
