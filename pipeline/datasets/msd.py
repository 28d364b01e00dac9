"""Medical Segmentation Decathlon tasks, such as Task06_Lung: `dataset.json` drives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.cases import CaseFiles, checked, refuse_orphans
from pipeline.errors import PipelineError

SUFFIX = ".nii.gz"
MODALITIES = {"CT": "CT", "MRI": "MR", "MR": "MR", "T1": "MR", "T1W": "MR", "T2": "MR"}


def list_cases(root: Path) -> list[CaseFiles]:
    """The training pairs of `dataset.json` that are on disk, and all of `imagesTs`.

    A number of files other than `numTraining` is a note on the first case, no error: what counts
    is what is on disk. Files named `._*` (left by macOS) are ignored.

    Raises:
        PipelineError: `dataset.json` missing or broken, no case, a case twice, an image without
            its label, or a label without its image.
    """
    description = read_description(root)
    modality = named_modality(description)
    cases = [
        replace(one, modality=modality)
        for one in [*_training(description, root), *_unlabelled(root)]
    ]
    labelled = sum(one.label is not None for one in cases)
    cases = checked(cases, root, "the files of dataset.json's training and test lists")
    promised = description.get("numTraining", labelled)
    if promised != labelled:
        note = f"dataset.json says {promised} training cases, {labelled} are on disk"
        cases[0] = replace(cases[0], notes=(note,))
    return cases


def read_description(root: Path) -> dict[str, Any]:
    """The content of `dataset.json`.

    Raises:
        PipelineError: missing, or not a JSON object.
    """
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise PipelineError(f"{path}: not there; is this the folder of the data set?") from None
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: no readable JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: found {type(content).__name__}, expected a JSON object")
    return content


def named_modality(description: dict[str, Any]) -> str:
    """The first channel's kind by `modality` or `channel_names`: "CT", "MR", or "" if neither."""
    channels = description.get("modality", description.get("channel_names"))
    first = channels.get("0", "") if isinstance(channels, dict) else ""
    return MODALITIES.get(str(first).upper(), "")


def visible_files(folder: Path, suffix: str = SUFFIX) -> set[Path]:
    """The files of a folder with this suffix, less hidden ones; none where there is no folder."""
    return {path for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")}


def _training(description: dict[str, Any], root: Path) -> list[CaseFiles]:
    images, labels = visible_files(root / "imagesTr"), visible_files(root / "labelsTr")
    cases = []
    for image, label in _pairs(description, root):
        if image in images and label not in labels:
            raise PipelineError(
                f"case {_name(image)}: {label} not there; dataset.json lists it, fetch it again"
            )
        if image in images:
            cases.append(CaseFiles(_name(image), image, label))
            labels.discard(label)
    refuse_orphans(
        [label for label in labels if root / "imagesTr" / label.name not in images], root
    )
    return cases


def _pairs(description: dict[str, Any], root: Path) -> list[tuple[Path, Path]]:
    try:
        return [
            (root / entry["image"], root / entry["label"])
            for entry in description["training"]
            if not Path(entry["image"]).name.startswith("._")
        ]
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{root / 'dataset.json'}: broken training list ({error!r}), expected "
            '[{"image": "./imagesTr/…", "label": "./labelsTr/…"}, …]'
        ) from error


def _unlabelled(root: Path) -> list[CaseFiles]:
    images = visible_files(root / "imagesTs")
    return [CaseFiles(_name(image), image, None, role="unlabelled") for image in images]


def _name(image: Path) -> str:
    return image.name.removesuffix(SUFFIX)
