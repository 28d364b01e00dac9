"""nnU-Net raw data sets with one channel: `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz`."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.cases import CaseFiles, checked, missing_label, orphans
from pipeline.datasets.lists import DESCRIPTION, listed_path, read_description, values_outside
from pipeline.datasets.msd import count_notes, images_of, with_modality
from pipeline.errors import Finding, PipelineError, file_fault

LOOKS_FOR = f"{DESCRIPTION} beside files such as imagesTr/NAME_0000.nii.gz"
SEVERAL = "images of several channels are not supported, keep one"


def fits(root: Path) -> bool:
    """Whether `dataset.json` names pairs by case, or lies beside images with a channel's number.

    Raises:
        PipelineError: `dataset.json` is broken.
    """
    if not (root / DESCRIPTION).is_file():
        return False
    images = images_of(root / "imagesTr")
    channel = any(re.search(r"_\d{4}\.", image.name) for image in images)
    return channel or "dataset" in read_description(root)


def list_cases(root: Path) -> list[CaseFiles]:
    """Pairs of `imagesTr` and `labelsTr`; an image of `imagesTs` is a test case if it has a label.

    The training pairs are those of the key `dataset` in `dataset.json`, where it has one. If they
    are fewer than `numTraining`, the first case gets a note: the files on disk count.

    Raises:
        PipelineError: `dataset.json` missing or broken.
        ListingError: several channels, no case, a case twice, a training image or label alone.
    """
    description = read_description(root)
    suffix = _file_ending(description, root)
    if "dataset" in description:
        training, faults = _described(description["dataset"], root)
    else:
        training, faults = _paired(root, "Tr", suffix)
        remedy = "add it, or move the image to imagesTs"
        faults += [
            missing_label(files.case, root / "labelsTr" / (files.case + suffix), remedy)
            for files in training
            if files.label is None
        ]
    pairs, more = _paired(root, "Ts", suffix)
    testing = [replace(files, role="test" if files.label else "unlabelled") for files in pairs]
    outside = values_outside(description, root)
    listed = [replace(files, outside=outside) for files in (*training, *testing)]
    cases = with_modality(listed, description)
    cases = checked(cases, root, f"files imagesTr/NAME_0000{suffix}", [*faults, *more])
    beside = len(images_of(root / "imagesTr") - {files.image for files in training})
    notes = count_notes(description, len(training), beside=beside, fewer=True)
    cases[0] = replace(cases[0], notes=tuple(notes))
    return cases


def _file_ending(description: dict[str, Any], root: Path) -> str:
    ending = description.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        expected = "one such as .nii.gz or .nrrd"
        raise file_fault(root / DESCRIPTION, f"file_ending {ending!r:.40}", expected, "correct it")
    return ending


def _visible_files(folder: Path, suffix: str) -> set[Path]:
    """The files of a folder with this suffix, without hidden ones; empty without the folder."""
    there = folder.iterdir() if folder.is_dir() else ()
    return {path for path in there if path.name.endswith(suffix) and path.name[0] != "."}


def _paired(root: Path, part: str, suffix: str) -> tuple[list[CaseFiles], list[Finding]]:
    labels = _visible_files(root / f"labels{part}", suffix)
    cases, faults = [], []
    for image in sorted(_visible_files(root / f"images{part}", suffix)):
        match = re.fullmatch(r"(.+)_(\d{4})", image.name.removesuffix(suffix))
        if match is None:
            expected = f"a name like NAME_0000{suffix}"
            faults.append(Finding("a name without channel", expected, "rename it", str(image)))
        elif match[2] != "0000":
            message = f"channel {match[2]}"
            faults.append(Finding(message, "_0000 only", SEVERAL, str(image), match[1]))
        else:
            label = root / f"labels{part}" / f"{match[1]}{suffix}"
            cases.append(CaseFiles(match[1], image, label if label in labels else None))
            labels.discard(label)
    return cases, [*faults, *orphans(labels)]


def _described(entries: Any, root: Path) -> tuple[list[CaseFiles], list[Finding]]:
    """The training pairs that `dataset.json` names; relative paths start in its folder."""
    cases, faults = [], []
    try:
        for case, entry in entries.items():
            if not isinstance(entry["images"], list):
                raise TypeError("images is no list")
            images = [_path(root, given) for given in entry["images"]]
            label = _path(root, entry["label"])
            if len(images) != 1:
                found = f"{len(images)} images"
                faults.append(Finding(found, "one", SEVERAL, str(root / DESCRIPTION), case))
                continue
            files = CaseFiles(case, images[0], label if label.exists() else None)
            cases.append(files)
            if files.label is None:
                remedy = "correct it in dataset.json, or fetch it"
                faults.append(missing_label(case, label, remedy))
            if not files.image.exists():
                expected, remedy = "the case's image", "correct it in dataset.json, or fetch it"
                faults.append(Finding("not there", expected, remedy, str(files.image), case))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(error, root) from error
    return cases, faults


def _path(root: Path, given: str) -> Path:
    # nnU-Net fills in the environment's variables, too
    return listed_path(root, os.path.expandvars(given))


def _broken(error: Exception, root: Path) -> PipelineError:
    found = f"broken key dataset ({error if isinstance(error, ValueError) else repr(error)})"
    expected = '{"NAME": {"images": ["PATH"], "label": "PATH"}, …}'
    return file_fault(root / DESCRIPTION, found, expected, "correct it")
