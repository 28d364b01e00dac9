"""ATLAS v2.0: BIDS folders by cohort, or the flat `derivatives/ATLAS/sub-*` form."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans

IMAGE = "_T1w.nii.gz"
MASK = "_label-L_desc-T1lesion_mask.nii.gz"
TRAINING = "Training"  # scans below it have a mask; the release keeps those without in Testing
SUBJECT = re.compile(r"(sub-r(\d+)s\d+)_")
LOOKS_FOR = f"files sub-r<cohort>s<number>_…{IMAGE}"


def fits(root: Path) -> bool:
    """Whether a scan named after subject and cohort lies below `root`."""
    return any(SUBJECT.match(path.name) for path in root.rglob(f"sub-r*{IMAGE}"))


def list_cases(root: Path) -> list[CaseFiles]:
    """Every `*_T1w.nii.gz` below `root`, with the cohort of `sub-r001s001` (R001) as its group.

    Raises:
        ListingError: no case, a subject twice, a mask without image, a training scan without mask.
    """
    files = list(root.rglob("*.nii.gz"))
    masks = {path for path in files if path.name.endswith(MASK) and not path.name.startswith(".")}
    cases, faults = [], []
    for image in files:
        subject = SUBJECT.match(image.name)
        if subject is None or not image.name.endswith(IMAGE):
            continue
        mask = image.with_name(image.name.removesuffix(IMAGE) + MASK)
        label, role = (mask, "") if mask in masks else (None, "unlabelled")
        if label is None and TRAINING in image.relative_to(root).parts:
            remedy = "fetch it again, or move the scan out of Training to have it predicted only"
            faults.append(missing_label(subject[1], mask, remedy))
        cases.append(CaseFiles(subject[1], image, label, f"R{subject[2]}", role, "MR"))
        masks.discard(mask)
    return checked(cases, root, LOOKS_FOR, [*faults, *orphans(masks)])


def other_names(root: Path) -> list[Path]:
    """Images whose name holds no subject and cohort; hidden files do not count."""
    return [
        path
        for path in root.rglob(f"*{IMAGE}")
        if not path.name.startswith(".") and SUBJECT.match(path.name) is None
    ]
