"""The files of one case, and the checks that every listing must pass."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Finding, PipelineError
from pipeline.settings import HEALTHY
from pipeline.storage.images.headers import data_files

ROLES = ("", "train", "validation", "test", "unlabelled", HEALTHY)
CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# of faults that only matter where labels are read
LABEL_ALONE, CASES_LABEL = "label without image", "the case's label"
NAME_RULE = "letters, digits and . _ + -, starting with a letter or digit"


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Where one case lies, and what its folder says about it; no image has been read."""

    case: str  # unique in its data set, and usable as a file name
    image: Path  # file or DICOM folder
    label: Path | None
    group: str = ""  # cohort, hospital or vendor
    role: str = ""  # one of `ROLES`; "" where the split stage decides
    modality: str = ""  # "MR", "CT", or "" where unknown
    notes: tuple[str, ...] = ()  # what a person should know, a sentence each
    outside: tuple[tuple[str, int], ...] = ()  # label values above 0 that are no lesion, by name


class ListingError(PipelineError):
    """Cases that cannot be told apart, or whose files do not fit together; it carries them all."""

    def __init__(self, cases: Sequence[CaseFiles], faults: Sequence[Finding]) -> None:
        super().__init__(*faults)
        self.cases = list(cases)


def checked(
    cases: Sequence[CaseFiles], root: Path, expected: str, faults: Sequence[Finding] = ()
) -> list[CaseFiles]:
    """The cases sorted by name.

    Raises:
        ListingError: the adapter's `faults`, no case, a case twice, a name unfit for a file.
    """
    findings = list(faults)
    if not cases and not faults:
        remedy = "correct source.root or source.adapter"
        findings.append(Finding("no cases found", expected, remedy, file=str(root)))
    images = defaultdict(list)
    for case in cases:
        name, image = case.case, str(case.image)
        images[name].append(image)
        if not CASE_NAME.fullmatch(name):
            findings.append(Finding(f"the name {name!r}", NAME_RULE, "rename it", image, name))
    for name, paths in sorted(images.items()):
        if len(paths) > 1 and name:
            message = f"the same case more than once: {' and '.join(sorted(paths))}"
            findings.append(Finding(message, "", "keep one, or rename the others", case=name))
    ordered = sorted(cases, key=lambda files: files.case)
    if findings:
        # when further images join a listing, the faults of the first check occur again
        raise ListingError(ordered, list(dict.fromkeys(findings)))
    return ordered


def orphans(labels: Iterable[Path]) -> list[Finding]:
    """A fault for each label whose image is not there."""
    remedy = "add the image or remove the label"
    return [Finding(LABEL_ALONE, "", remedy, file=str(path)) for path in sorted(labels)]


def missing_label(case: str, label: Path, remedy: str) -> Finding:
    """The fault of a training image without its label."""
    return Finding("not there", CASES_LABEL, remedy, str(label), case)


def shortened(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def source_files(files: CaseFiles) -> list[Path]:
    """Every file of a case; DICOM folders and detached headers have several."""
    sources: list[Path] = []
    for path in filter(None, (files.image, files.label)):
        if path.is_dir():
            sources += sorted(file for file in path.iterdir() if file.is_file())
        else:
            sources += data_files(path)
    return sources


def list_files(root: Path) -> list[Path]:
    """The existing files that list a data set's cases: its CSV, its `dataset.json`, or none."""
    return [path for path in (root, root / "manifest.csv", root / "dataset.json") if path.is_file()]
