"""nnU-Net raw data sets with one channel: `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans
from pipeline.datasets.msd import named_modality, read_description, visible_files
from pipeline.errors import Finding


def list_cases(root: Path) -> list[CaseFiles]:
    """Pairs of `imagesTr` and `labelsTr`; an image of `imagesTs` is a test case if it has a label.

    Raises:
        PipelineError: `dataset.json` missing or broken.
        ListingError: several channels, no case, a case twice, a training image without label, or a
            label without image.
    """
    description = read_description(root)
    suffix = str(description.get("file_ending", ".nii.gz"))
    modality = named_modality(description)
    training, faults = _paired(root, "Tr", suffix)
    remedy = "add it, or move the image to imagesTs"
    faults += [
        missing_label(files.case, root / "labelsTr" / (files.case + suffix), remedy)
        for files in training
        if files.label is None
    ]
    pairs, more = _paired(root, "Ts", suffix)
    testing = [replace(files, role="test" if files.label else "unlabelled") for files in pairs]
    cases = [replace(files, modality=modality) for files in [*training, *testing]]
    return checked(cases, root, f"files imagesTr/NAME_0000{suffix}", [*faults, *more])


def _paired(root: Path, part: str, suffix: str) -> tuple[list[CaseFiles], list[Finding]]:
    faults = []
    labels = visible_files(root / f"labels{part}", suffix)
    cases = []
    for image in sorted(visible_files(root / f"images{part}", suffix)):
        name, fault = _single_channel(image, suffix)
        if fault is not None:
            faults.append(fault)
            continue
        label = root / f"labels{part}" / f"{name}{suffix}"
        cases.append(CaseFiles(name, image, label if label in labels else None))
        labels.discard(label)
    return cases, [*faults, *orphans(labels)]


def _single_channel(image: Path, suffix: str) -> tuple[str, Finding | None]:
    """The case's name by its image file, and the fault if that is not its only channel."""
    match = re.fullmatch(r"(.+)_(\d{4})", image.name.removesuffix(suffix))
    if match is None:
        expected = f"a name like NAME_0000{suffix}"
        return "", Finding("a name without channel", expected, "rename it", str(image))
    name, channel = match.groups()
    if channel != "0000":
        remedy = "images of several channels are not supported, keep one"
        return name, Finding(f"channel {channel}", "_0000 only", remedy, str(image), name)
    return name, None
