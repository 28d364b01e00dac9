"""Folders of DICOM slices: one folder a case, or case folders with several series below."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.datasets import manifest
from pipeline.datasets.cases import CaseFiles, checked

SUFFIXES = {"", ".dcm", ".ima"}
NO_SLICES = {"dicomdir", "license", "readme", "version"}


def list_cases(root: Path) -> list[CaseFiles]:
    """Every folder below `root` that holds slices, named after its case folder.

    A case folder with several series gives a case for each, `PATIENT-SERIES`. All are unlabelled.
    A `manifest.csv` in `root` replaces this listing: it gives labels, groups and roles.

    Raises:
        PipelineError: no folder with slices, two folders of one name, a broken CSV.
    """
    if (root / manifest.TABLE).is_file():
        return manifest.list_cases(root)
    folders = [Path(folder) for folder, _, files in os.walk(root) if slices_among(files)]
    parts = [folder.relative_to(root).parts or (root.resolve().name,) for folder in folders]
    series = Counter(patient for patient, *_ in parts)
    names = [_clean(part[0] if series[part[0]] == 1 else "-".join(part)) for part in parts]
    cases = [
        CaseFiles(name, folder, None, role="unlabelled")
        for name, folder in zip(names, folders, strict=True)
    ]
    return checked(cases, root, "folders of DICOM slices (.dcm, .ima or without suffix)")


def slices_among(names: Iterable[str]) -> list[str]:
    """Those of the file names that a DICOM slice may have, sorted."""
    return sorted(
        name
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
        and name.lower() not in NO_SLICES
        and not name.startswith(".")
    )


def _clean(name: str) -> str:
    """A name usable as a file name: folders on hospital disks hold blanks, carets and umlauts."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("_.-+")
