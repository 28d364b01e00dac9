"""The record of a check: what each case is like, and every finding, as `check.json`."""

from __future__ import annotations

import json
import textwrap
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TextIO, TypeVar, cast

from pipeline.errors import SEVERITIES, Finding
from pipeline.storage.files import replacing
from pipeline.storage.layout import Layout

VERSION = 3  # of check.json's form
T = TypeVar("T")


class Quantiles(NamedTuple):
    """Of an image's intensities."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case; sizes are None where the image or the label could not be read."""

    case: str
    group: str  # cohort, hospital or vendor
    role: str  # given by the data set itself, or ""
    labelled: bool  # has a reference
    fingerprint: str | None = None  # of its case store
    shape: tuple[int, int, int] | None = None  # voxels (z, y, x)
    spacing: tuple[float, float, float] | None = None  # mm (z, y, x)
    quantiles: Quantiles | None = None  # of the voxels above the minimum
    empty_slices: int | None = None  # constant ones
    voxel_digest: str | None = None  # SHA-256 of the image's voxels, whatever file they lie in
    lesions: int | None = None  # 3D 6-connected components of the reference
    each_lesion_voxels: Sequence[int] = ()  # in scan order
    each_lesion_mm3: Sequence[float] = ()  # in scan order
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


class Recorder:
    """Writes `check.json`: each case at once, and the rest when all have been read."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._before = ""
        self._shared: dict[object, Any] = {}
        file.write('{\n "cases": [')

    def __call__(self, case: CaseFacts) -> CaseFacts:
        """Write a case; return it as it is kept, because there may be very many."""
        known = asdict(case)
        known["quantiles"] = {} if case.quantiles is None else case.quantiles._asdict()
        self._file.write(f"{self._before}\n{_indented(known)}")
        self._before = ","
        return replace(
            case,
            group=self._once(case.group),
            role=self._once(case.role),
            shape=self._once(case.shape),
            spacing=self._once(case.spacing),
            fingerprint=None,
            each_lesion_voxels=array("q", case.each_lesion_voxels),
            each_lesion_mm3=array("d", case.each_lesion_mm3),
        )

    def _once(self, value: T) -> T:
        """The first of equal values, so that it is held once."""
        return cast("T", self._shared.setdefault(value, value))

    def rest(self, check: Check) -> None:
        """Write the findings, and all else."""
        self._file.write("\n ]," if self._before else "],")
        content = {
            "version": VERSION,
            "dataset": check.dataset,
            "counts": check.counts,
            "disk_bytes": check.disk,
            "free_bytes": check.free,
            "findings": [],
            "outputs": [],
        }
        head, foot = json.dumps(content, indent=1, sort_keys=True)[1:].split('"findings": []')
        self._file.write(f'{head}"findings": [')
        for number, finding in enumerate(check.findings):
            self._file.write(f"{',' * (number > 0)}\n{_indented(finding.as_json())}")
        self._file.write(f"{chr(10) + ' ' if check.findings else ''}]{foot}\n")


def _indented(record: Mapping[str, Any]) -> str:
    return textwrap.indent(json.dumps(record, indent=1, sort_keys=True), "  ")


@contextmanager
def recording(layout: Layout) -> Iterator[Recorder]:
    """The writer of `check.json`, which is there when the block has ended without an error."""
    # a file's name may hold bytes that are no text
    text: Any = {"mode": "w", "encoding": "utf-8", "errors": "backslashreplace"}
    with replacing(layout.check(".json")) as temporary, temporary.open(**text) as file:
        yield Recorder(file)
