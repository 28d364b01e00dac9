"""orCaScore: calcium-scoring heart CTs, without the contrast scans (`*CTAI`) beside them."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans
from pipeline.errors import Finding

IMAGE = re.compile(r"((?:TR|TE|VA)(V\d+)P\d+)[ _]?CTI\.mh[ad]", re.IGNORECASE)
CONTRAST = re.compile(r"(?:TR|TE|VA)V\d+P\d+[ _]?CTAI\.mh[ad]", re.IGNORECASE)
LABEL = re.compile(r"((?:TR|TE|VA)V\d+P\d+)[ _]?R\.mh[ad]", re.IGNORECASE)
REFERENCES = re.compile(r"reference[ _]standard", re.IGNORECASE)
FILES = "*.[mM][hH][aAdD]"
LOOKS_FOR = "files such as Training Set/Images/TRV1P1CTI.mhd"


def fits(root: Path) -> bool:
    """Whether a calcium-scoring scan, named as the challenge does, lies below `root`."""
    return any(IMAGE.fullmatch(path.name) for path in root.rglob(FILES))


def list_cases(root: Path) -> list[CaseFiles]:
    """Every `…CTI.mhd` below `root`; labels lie in folders named `Reference standard`.

    Capitals do not matter; a blank or `_` divides words. The group is the vendor, V1 to V4.

    Raises:
        ListingError: no case, a case or reference twice, a reference or training scan alone.
    """
    images, faults = [], []
    labels: dict[str, Path] = {}
    for path in sorted(root.rglob(FILES)):
        if match := IMAGE.fullmatch(path.name):
            images.append((match[1].upper(), match[2].upper(), path))
        elif (match := LABEL.fullmatch(path.name)) and REFERENCES.fullmatch(path.parent.name):
            case = match[1].upper()
            if case in labels:
                message = f"two references: {labels[case]} and {path}"
                faults.append(Finding(message, "one", "keep one", case=case))
            labels[case] = path
    cases = []
    for case, vendor, image in images:
        label = labels.get(case)
        role = "" if label else "unlabelled"
        if label is None and case.startswith("TR"):
            expected = image.parents[1] / "Reference standard" / f"{case}R.mhd"
            remedy = "fetch it again, or keep the scan elsewhere to have it predicted only"
            faults.append(missing_label(case, expected, remedy))
        cases.append(CaseFiles(case, image, label, group=vendor, role=role, modality="CT"))
    known = {case for case, _, _ in images}
    faults += orphans(path for case, path in labels.items() if case not in known)
    return checked(cases, root, LOOKS_FOR, faults)


def contrast_scans(root: Path) -> list[Path]:
    """The contrast-enhanced scans beside the calcium-scoring ones."""
    return [path for path in root.rglob(FILES) if CONTRAST.fullmatch(path.name)]
