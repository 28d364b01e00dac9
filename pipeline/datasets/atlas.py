"""ATLAS v2.0: BIDS folders by cohort, or the flat `derivatives/ATLAS/sub-*` form."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, orphans

IMAGE = "_T1w.nii.gz"
MASK = "_label-L_desc-T1lesion_mask.nii.gz"
SUBJECT = re.compile(r"(sub-r(\d+)s\d+)_")


def list_cases(root: Path) -> list[CaseFiles]:
    """Every `*_T1w.nii.gz` below `root`, with the cohort of `sub-r001s001` (R001) as its group.

    Raises:
        PipelineError: no case, a subject twice, or a mask without its image.
    """
    masks = {path for path in root.rglob(f"*{MASK}") if not path.name.startswith(".")}
    cases = []
    for image in root.rglob(f"*{IMAGE}"):
        subject = SUBJECT.match(image.name)
        if subject is None:
            continue
        mask = image.with_name(image.name.removesuffix(IMAGE) + MASK)
        labelled = mask in masks
        cases.append(
            CaseFiles(
                subject[1],
                image,
                mask if labelled else None,
                group=f"R{subject[2]}",
                role="" if labelled else "unlabelled",
                modality="MR",
            )
        )
        masks.discard(mask)
    return checked(cases, root, f"files sub-r<cohort>s<number>_…{IMAGE}", orphans(masks))


def other_names(root: Path) -> list[Path]:
    """Images whose name does not tell subject and cohort, hidden ones aside."""
    return [
        path
        for path in root.rglob(f"*{IMAGE}")
        if not path.name.startswith(".") and SUBJECT.match(path.name) is None
    ]
