"""Cases beside those that an adapter lists: to predict as well, healthy, or of other data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.cases import CaseFiles
from pipeline.datasets.dicom import named_scans
from pipeline.errors import Finding
from pipeline.settings import HEALTHY, FurtherImage, external_set
from pipeline.storage.images.names import SUFFIXES, image_name, looks_like_image


def further_cases(
    images: Sequence[FurtherImage], beside: Sequence[CaseFiles]
) -> tuple[list[CaseFiles], list[Finding]]:
    """Cases of images without label, named after their files, and the faults of others.

    A folder of healthy scans stands for the image files in it or, where it has none, for those
    below it, and where there is none either, for every DICOM scan below it. A healthy scan that is
    a case already, by whatever name, is a fault.
    """
    modality = beside[0].modality if beside else ""
    healthy = any(each.role == HEALTHY for each in images)
    case_of = {case.image.resolve(): case.case for case in beside if healthy}
    cases, faults = [], []
    for image, role, _ in images:
        key = "source.healthy" if role == HEALTHY else "source.also_predict"
        remedy = f"correct {key}"
        if not image.exists():
            faults.append(Finding("not there", "an image", remedy, str(image)))
            continue
        scans = _scans(image) if role == HEALTHY else [(image_name(image), image)]
        if not scans:
            expected = f"images ({', '.join(SUFFIXES)}) or DICOM slices in it or below it"
            faults.append(Finding("a folder without images", expected, remedy, str(image)))
        for name, path in scans:
            if role == HEALTHY and (known := case_of.get(path.resolve())):
                found = f"a healthy scan that is the image of case {known}, too"
                faults.append(Finding(found, "another image", remedy, str(path)))
                continue
            cases.append(CaseFiles(name, path, None, role=role, modality=modality))
    return cases, faults


def external_name(case: str, of: FurtherImage) -> str:
    """The name of a case of an external data set, beside which ours may have the same."""
    return f"{external_set(of.role)}-{case}"


def as_external(case: CaseFiles, of: FurtherImage) -> CaseFiles:
    """A case of an external data set, which is only tested, whatever role it has there."""
    modality = (of.source and of.source.modality) or case.modality
    return replace(case, case=external_name(case.case, of), role=of.role, modality=modality)


def _scans(path: Path) -> list[tuple[str, Path]]:
    """The scans that a file or a folder stands for, with their names."""
    if not path.is_dir():
        return [(image_name(path), path)]
    for pattern in ("*", "**/*"):
        if files := sorted(file for file in path.glob(pattern) if looks_like_image(file.name)):
            return [(image_name(file), file) for file in files]
    return list(named_scans(path))
