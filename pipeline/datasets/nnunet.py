"""nnU-Net raw data sets with one channel: `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked, refuse_orphans
from pipeline.datasets.msd import named_modality, read_description, visible_files
from pipeline.errors import PipelineError


def list_cases(root: Path) -> list[CaseFiles]:
    """Pairs of `imagesTr` and `labelsTr`; `imagesTs` are test cases if `labelsTs` has their label.

    Raises:
        PipelineError: `dataset.json` missing or broken, several channels, no case, a case twice,
            a training image without label, or a label without image.
    """
    description = read_description(root)
    suffix = str(description.get("file_ending", ".nii.gz"))
    modality = named_modality(description)
    training = _paired(root, "Tr", suffix)
    unlabelled = [one.case for one in training if one.label is None]
    if unlabelled:
        raise PipelineError(
            f"case {unlabelled[0]}: {root / 'labelsTr' / (unlabelled[0] + suffix)} not there; "
            "add it, or move the image to imagesTs"
        )
    testing = [
        replace(one, role="test" if one.label else "unlabelled")
        for one in _paired(root, "Ts", suffix)
    ]
    cases = [replace(one, modality=modality) for one in [*training, *testing]]
    return checked(cases, root, f"files imagesTr/NAME_0000{suffix}")


def _paired(root: Path, part: str, suffix: str) -> list[CaseFiles]:
    labels = visible_files(root / f"labels{part}", suffix)
    cases = []
    for image in visible_files(root / f"images{part}", suffix):
        name = _single_channel(image, suffix)
        label = root / f"labels{part}" / f"{name}{suffix}"
        cases.append(CaseFiles(name, image, label if label in labels else None))
        labels.discard(label)
    refuse_orphans(labels, root)
    return cases


def _single_channel(image: Path, suffix: str) -> str:
    """The case's name, from a file that must be its only channel."""
    found = re.fullmatch(r"(.+)_(\d{4})", image.name.removesuffix(suffix))
    if found is None:
        raise PipelineError(f"{image}: expected a name like NAME_0000{suffix}")
    if found[2] != "0000":
        raise PipelineError(
            f"case {found[1]}: found channel {found[2]} ({image}), expected _0000 only; images of "
            "several channels are not supported, keep one"
        )
    return found[1]
