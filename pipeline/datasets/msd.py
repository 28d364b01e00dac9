"""Medical Segmentation Decathlon tasks, such as Task06_Lung, listed in `dataset.json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans, shortened
from pipeline.datasets.lists import DESCRIPTION, listed_path, read_description, values_outside
from pipeline.errors import Finding, file_fault
from pipeline.storage.images.names import image_name, looks_like_image

PAPER_LUNG_CASES = 64  # section 4.1; the release has 63
LOOKS_FOR = f"{DESCRIPTION} with a list `training` of images that are there"
MODALITIES = {"CT": "CT", "MRI": "MR", "MR": "MR", "T1": "MR", "T1W": "MR", "T2": "MR"}


def fits(root: Path) -> bool:
    """Whether `dataset.json` lists training images, of which one is there.

    Raises:
        PipelineError: `dataset.json` is broken.
    """
    if not (root / DESCRIPTION).is_file():
        return False
    description = read_description(root)
    # nnU-Net's first version listed images by other names than theirs
    return "training" in description and any(
        image.exists() for image, _ in _pairs(description, root)
    )


def list_cases(root: Path) -> list[CaseFiles]:
    """The training pairs of `dataset.json` that are on disk, and all of `imagesTs`.

    A listed image may have any suffix that is read. If the number of pairs is not `numTraining`,
    the first case gets a note: the files on disk count.

    Raises:
        PipelineError: `dataset.json` missing or broken.
        ListingError: no case, a case twice, an image without label, a label without image.
    """
    description = read_description(root)
    pairs = _pairs(description, root)
    training, faults = _training(pairs, root)
    tests = [
        CaseFiles(image_name(image), image, None, role="unlabelled")
        for image in images_of(root / "imagesTs")
    ]
    outside = values_outside(description, root)
    training = [replace(files, outside=outside) for files in training]
    cases = with_modality([*training, *tests], description)
    cases = checked(cases, root, "the files of dataset.json's training and test lists", faults)
    labelled = sum(files.label is not None for files in cases)
    missing = [image.name for image, _ in pairs if not image.exists()]
    beside = len(images_of(root / "imagesTr") - {image for image, _ in pairs})
    notes = count_notes(description, labelled, missing, beside)
    if description.get("name") == "Lung" and labelled != PAPER_LUNG_CASES:
        paper = f"the paper counts {PAPER_LUNG_CASES}"
        notes.append(f"{labelled} labelled cases of Task06 Lung; {paper}")
    cases[0] = replace(cases[0], notes=tuple(notes))
    return cases


def count_notes(
    description: dict[str, Any],
    labelled: int,
    missing: Sequence[str] = (),
    beside: int = 0,
    *,
    fewer: bool = False,
) -> list[str]:
    """A note where the number of labelled cases is not the `numTraining` of `dataset.json`.

    `missing` are listed and not there; `beside` counts images that are there and no case.
    With `fewer`, more cases than promised are none.
    """
    promised = description.get("numTraining", labelled)
    if isinstance(promised, str) and promised.isdecimal():
        promised = int(promised)
    if promised == labelled or (fewer and isinstance(promised, int) and promised < labelled):
        return []
    there = f"{labelled} of the {labelled + beside} on disk are cases"
    note = f"dataset.json says {promised} training cases, "
    note += there if beside else f"{labelled} are on disk"
    return [f"{note}; not there: {shortened(missing)}" if missing else note]


def not_listed(root: Path) -> list[Path]:
    """Images of `imagesTr` that `dataset.json`, which `read_description` reads, does not name."""
    listed = {image for image, _ in _pairs(read_description(root), root)}
    return sorted(images_of(root / "imagesTr") - listed)


def with_modality(cases: Iterable[CaseFiles], description: dict[str, Any]) -> list[CaseFiles]:
    """The cases with the first channel of `dataset.json`, if that is CT or MR, as modality."""
    channels = description.get("modality", description.get("channel_names"))
    first = channels.get("0", "") if isinstance(channels, dict) else ""
    modality = MODALITIES.get(str(first).upper(), "")
    return [replace(files, modality=modality) for files in cases]


def images_of(folder: Path) -> set[Path]:
    """The images of a folder by their names, without hidden ones; empty without the folder."""
    there = folder.iterdir() if folder.is_dir() else ()
    return {path for path in there if looks_like_image(path.name)}


def _training(
    pairs: Sequence[tuple[Path, Path]], root: Path
) -> tuple[list[CaseFiles], list[Finding]]:
    labels, cases, faults = images_of(root / "labelsTr"), [], []
    for image, label in pairs:
        labels.discard(label)
        if not image.exists():
            if label.exists():
                faults += orphans([label])
            continue
        labelled, name = label.exists(), image_name(image)
        cases.append(CaseFiles(name, image, label if labelled else None))
        if not labelled:
            faults.append(missing_label(name, label, "dataset.json lists it, fetch it again"))
    # one without an entry but with an image is told with the images that are not listed
    names = {image_name(image) for image in images_of(root / "imagesTr")}
    return cases, [*faults, *orphans(path for path in labels if image_name(path) not in names)]


def _pairs(description: dict[str, Any], root: Path) -> list[tuple[Path, Path]]:
    try:
        return [
            (listed_path(root, entry["image"]), listed_path(root, entry["label"]))
            for entry in description["training"]
            if not Path(entry["image"]).name.startswith("._")
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise file_fault(
            root / DESCRIPTION,
            f"broken training list ({error if isinstance(error, ValueError) else repr(error)})",
            '[{"image": "./imagesTr/…", "label": "./labelsTr/…"}, …]',
            "correct it, or fetch it again",
        ) from error
