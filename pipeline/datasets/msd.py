"""Medical Segmentation Decathlon tasks, such as Task06_Lung, listed in `dataset.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans, shortened
from pipeline.errors import Finding, file_fault

SUFFIX = ".nii.gz"
PAPER_LUNG_CASES = 64  # section 4.1; the release has 63
MODALITIES = {"CT": "CT", "MRI": "MR", "MR": "MR", "T1": "MR", "T1W": "MR", "T2": "MR"}


def list_cases(root: Path) -> list[CaseFiles]:
    """The training pairs of `dataset.json` that are on disk, and all of `imagesTs`.

    If their number is not `numTraining`, the first case gets a note: the files on disk count.

    Raises:
        PipelineError: `dataset.json` missing or broken.
        ListingError: no case, a case twice, an image without label, a label without image.
    """
    description = read_description(root)
    training, faults = _training(description, root)
    tests = [
        CaseFiles(image.name.removesuffix(SUFFIX), image, None, role="unlabelled")
        for image in visible_files(root / "imagesTs")
    ]
    cases = with_modality([*training, *tests], description)
    labelled = sum(files.label is not None for files in cases)
    cases = checked(cases, root, "the files of dataset.json's training and test lists", faults)
    cases[0] = replace(cases[0], notes=_count_notes(description, root, labelled))
    return cases


def _count_notes(description: dict[str, Any], root: Path, labelled: int) -> tuple[str, ...]:
    """Where the number of labelled cases is not that of `dataset.json` or of the paper."""
    notes = []
    promised = description.get("numTraining", labelled)
    if promised != labelled:
        missing = [image.name for image, _ in _pairs(description, root) if not image.exists()]
        note = f"dataset.json says {promised} training cases, {labelled} are on disk"
        notes.append(f"{note}; not there: {shortened(missing)}" if missing else note)
    if description.get("name") == "Lung" and labelled != PAPER_LUNG_CASES:
        paper = f"the paper counts {PAPER_LUNG_CASES}"
        notes.append(f"{labelled} labelled cases of Task06 Lung; {paper}")
    return tuple(notes)


def not_listed(root: Path) -> list[Path]:
    """Images of `imagesTr` that `dataset.json`, which `read_description` reads, does not name."""
    listed = {image for image, _ in _pairs(read_description(root), root)}
    return sorted(visible_files(root / "imagesTr") - listed)


def read_description(root: Path) -> dict[str, Any]:
    """The content of `dataset.json`; a PipelineError if it is missing, or not a JSON object."""
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        expected = "the data set's description"
        raise file_fault(path, "not there", expected, "correct source.root") from None
    except (OSError, ValueError) as error:
        raise file_fault(path, f"no readable JSON ({error})", "", "fetch it again") from error
    if not isinstance(content, dict):
        raise file_fault(path, f"found {type(content).__name__}", "a JSON object", "fetch it again")
    return content


def with_modality(cases: Iterable[CaseFiles], description: dict[str, Any]) -> list[CaseFiles]:
    """The cases with the first channel of `dataset.json`, if that is CT or MR, as modality."""
    channels = description.get("modality", description.get("channel_names"))
    first = channels.get("0", "") if isinstance(channels, dict) else ""
    modality = MODALITIES.get(str(first).upper(), "")
    return [replace(files, modality=modality) for files in cases]


def visible_files(folder: Path, suffix: str = SUFFIX) -> set[Path]:
    """The files of a folder with this suffix, without hidden ones; empty without the folder."""
    return {path for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")}


def _training(description: dict[str, Any], root: Path) -> tuple[list[CaseFiles], list[Finding]]:
    images, labels = visible_files(root / "imagesTr"), visible_files(root / "labelsTr")
    cases, faults = [], []
    for image, label in _pairs(description, root):
        if image not in images:
            continue
        labelled, name = label in labels, image.name.removesuffix(SUFFIX)
        cases.append(CaseFiles(name, image, label if labelled else None))
        labels.discard(label)
        if not labelled:
            faults.append(missing_label(name, label, "dataset.json lists it, fetch it again"))
    lonely = [label for label in labels if root / "imagesTr" / label.name not in images]
    return cases, [*faults, *orphans(lonely)]


def _pairs(description: dict[str, Any], root: Path) -> list[tuple[Path, Path]]:
    try:
        return [
            (root / entry["image"], root / entry["label"])
            for entry in description["training"]
            if not Path(entry["image"]).name.startswith("._")
        ]
    except (KeyError, TypeError) as error:
        raise file_fault(
            root / "dataset.json",
            f"broken training list ({error!r})",
            '[{"image": "./imagesTr/…", "label": "./labelsTr/…"}, …]',
            "fetch it again",
        ) from error
