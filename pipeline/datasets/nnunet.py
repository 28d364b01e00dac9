"""nnU-Net raw data sets with one channel: `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans
from pipeline.datasets.msd import read_description, visible_files, with_modality
from pipeline.errors import Finding


def list_cases(root: Path) -> list[CaseFiles]:
    """Pairs of `imagesTr` and `labelsTr`; an image of `imagesTs` is a test case if it has a label.

    Raises:
        PipelineError: `dataset.json` missing or broken.
        ListingError: several channels, no case, a case twice, a training image or label alone.
    """
    description = read_description(root)
    suffix = str(description.get("file_ending", ".nii.gz"))
    training, faults = _paired(root, "Tr", suffix)
    remedy = "add it, or move the image to imagesTs"
    faults += [
        missing_label(files.case, root / "labelsTr" / (files.case + suffix), remedy)
        for files in training
        if files.label is None
    ]
    pairs, more = _paired(root, "Ts", suffix)
    testing = [replace(files, role="test" if files.label else "unlabelled") for files in pairs]
    cases = with_modality([*training, *testing], description)
    return checked(cases, root, f"files imagesTr/NAME_0000{suffix}", [*faults, *more])


def _paired(root: Path, part: str, suffix: str) -> tuple[list[CaseFiles], list[Finding]]:
    labels = visible_files(root / f"labels{part}", suffix)
    cases, faults = [], []
    for image in sorted(visible_files(root / f"images{part}", suffix)):
        match = re.fullmatch(r"(.+)_(\d{4})", image.name.removesuffix(suffix))
        if match is None:
            expected = f"a name like NAME_0000{suffix}"
            faults.append(Finding("a name without channel", expected, "rename it", str(image)))
        elif match[2] != "0000":
            message = f"channel {match[2]}"
            remedy = "images of several channels are not supported, keep one"
            faults.append(Finding(message, "_0000 only", remedy, str(image), match[1]))
        else:
            label = root / f"labels{part}" / f"{match[1]}{suffix}"
            cases.append(CaseFiles(match[1], image, label if label in labels else None))
            labels.discard(label)
    return cases, [*faults, *orphans(labels)]
