"""Folders of DICOM slices: one folder a case, or case folders with several series below."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets import manifest
from pipeline.datasets.cases import CaseFiles, checked
from pipeline.storage.images.dicom.content import is_dicom, is_survey, may_hold_slices

LOOKS_FOR = "folders of DICOM slices"


def fits(root: Path) -> bool:
    """Whether a folder from `root` on holds a DICOM slice."""
    return any(
        is_dicom(file) and may_hold_slices(file) for _, files in _folders(root) for file in files
    )


def list_cases(root: Path) -> list[CaseFiles]:
    """Every folder below `root` that holds slices, named after its case folder.

    A case folder with several series gives a case for each, `PATIENT-SERIES`. All are unlabelled.
    A `manifest.csv` in `root` replaces this listing: it gives labels, groups and roles.

    Raises:
        PipelineError: no folder with slices, two folders of one name, a broken CSV.
    """
    if (root / manifest.TABLE).is_file():
        return manifest.list_cases(root)
    cases = [CaseFiles(*scan, None, role="unlabelled") for scan in named_scans(root)]
    return checked(cases, root, LOOKS_FOR)


def named_scans(root: Path) -> list[tuple[str, Path]]:
    """The folders from `root` on that hold slices, each after the name of its case."""
    folders = _scans(root)
    parts = [folder.relative_to(root).parts or (root.resolve().name,) for folder in folders]
    series = Counter(patient for patient, *_ in parts)
    names = [_clean(part[0] if series[part[0]] == 1 else "-".join(part)) for part in parts]
    return list(zip(names, folders, strict=True))


def without_slices(root: Path) -> list[Path]:
    """DICOM files in folders that are no case: directories, reports, localizers and the like."""
    if (root / manifest.TABLE).is_file():
        return []
    scans = set(_scans(root))
    others = [files for folder, files in _folders(root) if folder not in scans]
    return [file for files in others for file in files if is_dicom(file)]


def _scans(root: Path) -> list[Path]:
    """The folders with slices; those of a survey only where the case folder has no other."""
    # the first slice of a folder settles it: a scan has thousands of files
    found = {folder: files for folder, files in _folders(root) if any(map(may_hold_slices, files))}
    of_case: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder in found:
        of_case[folder.relative_to(root).parts[:1]].append(folder)
    scans: list[Path] = []
    for folders in of_case.values():
        kept = [one for one in folders if len(folders) > 1 and not _is_survey(found[one])]
        scans += kept or folders
    return scans


def _is_survey(files: Sequence[Path]) -> bool:
    return is_survey([file for file in files if may_hold_slices(file)])


def _folders(root: Path) -> list[tuple[Path, list[Path]]]:
    """Every folder from `root` on, and its files but hidden ones, by name."""
    return [
        (Path(folder), [Path(folder, name) for name in sorted(names) if name[0] != "."])
        for folder, _, names in os.walk(root)
    ]


def _clean(name: str) -> str:
    """A name usable as a file name: folders on hospital disks hold blanks, carets and umlauts."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("_.-+")
