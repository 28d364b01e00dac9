"""Warnings: what a careful person would look at in a data set that has no fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.cases import CaseFiles, source_files
from pipeline.datasets.loading import NO_LESION, LoadedCase
from pipeline.errors import Finding
from pipeline.planning.sizes import size_text
from pipeline.storage.images.dicom.content import stated_modality
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.source_grid import slice_plane

AIR_HU = -500  # every CT shows air, around the patient if not in the lung
VISIBLE_SHARE = 0.01  # of the voxels strictly between black and white
THICK = 3  # times as thick as wide: from here on the axis of the slices matters
VERY_THICK = 10  # 5 mm over 0.5 mm, and 3 mm over 0.4 mm of heart CTs, are common
ODD_SPACING = 5  # times the median, or a fifth of it: cm or m for mm, or another kind of scan
FEWEST_FOR_ODD = 5  # cases: the median of fewer says nothing


def image_warnings(
    image: npt.NDArray[Any], modality: str, limits: tuple[float, float]
) -> list[Finding]:
    """Intensities that make no sense for the modality, or for what the networks will see.

    `image` is (z, y, x) in the source's units, not constant; `limits` become 0 and 1.
    """
    warnings = []
    if modality == "CT" and (low := image.min()) > AIR_HU:
        remedy = "look whether it was clipped or masked on export; networks see it differently"
        odd = f"a CT whose lowest value is {low:g} HU"
        warnings.append(_warning(odd, f"air below {AIR_HU} HU", remedy))
    low, high = limits
    share = np.count_nonzero((image > low) & (image < high)) / image.size
    if share < VISIBLE_SHARE:
        odd = f"{share:.2%} of the voxels between black ({low:g}) and white ({high:g})"
        remedy = "correct slices.window, or the image's units"
        warnings.append(_warning(odd, f"at least {VISIBLE_SHARE:.0%}", remedy))
    return warnings


def grid_warnings(geometry: Geometry) -> list[Finding]:
    """Slices that are not axial, that are very thick, or thicker along another axis than z.

    `geometry` is the working grid: with `slices.plane: axial`, its slices are axial.
    """
    if (plane := slice_plane(geometry)) != "axial":
        remedy = "set slices.plane: axial, unless the networks are to see these"
        return [_warning(f"{plane} slices", "axial ones", remedy)]
    spacing = geometry.spacing
    listed = f"spacing {' × '.join(f'{step:g}' for step in spacing)} mm (z, y, x)"
    thickest = "zyx"[int(np.argmax(spacing))]
    if thickest != "z" and max(spacing) >= THICK * min(spacing):
        remedy = "look whether the scan should take part: it was not made in axial slices"
        return [_warning(f"{listed}: the thick axis is {thickest}", "z", remedy)]
    if max(spacing) > VERY_THICK * min(spacing):
        remedy = "look whether the header is right, and whether the scan should take part"
        return [_warning(listed, f"at most {VERY_THICK} times as thick as wide", remedy)]
    return []


def label_warnings(label: npt.NDArray[np.uint8]) -> list[Finding]:
    """A lesion that the image's border cuts; `label` is (z, y, x)."""
    cut = [
        f"{side} {name}"
        for axis, name in enumerate("zyx")
        for side, end in (("first", 0), ("last", -1))
        if label.shape[axis] > 1 and label.take(end, axis).any()
    ]
    if not cut:
        return []
    remedy = "look whether the image is cropped or the mask shifted"
    return [_warning(f"lesion at the image's border ({', '.join(cut)})", "a margin", remedy)]


def modality_warnings(files: CaseFiles, modality: str) -> list[Finding]:
    """DICOM that states another modality than it is read as."""
    stated = stated_modality(source_files(files))
    if not modality or stated in ("", modality):
        return []
    expected = f"{modality}, as source.modality says"
    return [_warning(f"DICOM of modality {stated}", expected, "leave it out, or correct the key")]


def case_warnings(
    loaded: LoadedCase, modality: str, limits: tuple[float, float], *, lesion_free: bool
) -> list[Finding]:
    """The notes of a case without fault, and its warnings.

    `lesion_free` says that patients without lesion are expected, as in calcium scoring.
    """
    assert loaded.image is not None
    files = loaded.files
    of_image = image_warnings(loaded.image.array, modality, limits)
    of_image += [*grid_warnings(loaded.image.geometry), *modality_warnings(files, modality)]
    of_label = [] if loaded.label is None else label_warnings(loaded.label)
    findings = []
    for note in loaded.notes:
        expected = lesion_free and note.found == NO_LESION
        findings.append(replace(note, severity="note", remedy="") if expected else note)
    for file, warnings in ((files.image, of_image), (files.label, of_label)):
        findings += [replace(warning, case=files.case, file=str(file)) for warning in warnings]
    return findings


def spacing_warnings(spacings: Sequence[tuple[str, tuple[float, float, float]]]) -> list[Finding]:
    """Cases (name, mm) whose spacing is far from the median."""
    if len(spacings) < FEWEST_FOR_ODD:
        return []
    median = np.median([spacing for _, spacing in spacings], axis=0)
    warnings = []
    for case, spacing in spacings:
        ratio = np.array(spacing) / median
        axes = [axis for axis in range(3) if not 1 / ODD_SPACING <= ratio[axis] <= ODD_SPACING]
        if axes:
            odd = ", ".join(f"{spacing[axis]:g} mm in {'zyx'[axis]}" for axis in axes)
            usual = ", ".join(f"{median[axis]:g}" for axis in axes)
            remedy = "look whether the header's unit is right, and whether the scan belongs here"
            expected = f"about the data set's median, {usual} mm"
            warnings.append(replace(_warning(f"spacing {odd}", expected, remedy), case=case))
    return warnings


def twin_warnings(digests: Iterable[tuple[str, str]]) -> list[Finding]:
    """Cases (name, digest of the voxels) with the image of an earlier case."""
    alike = defaultdict(list)
    for case, digest in digests:
        alike[digest].append(case)
    remedy = "keep one, or they may train and test alike"
    return [
        replace(_warning(f"the same voxels as {first}", "another image", remedy), case=case)
        for first, *others in alike.values()
        for case in others
    ]


def disk_warnings(needed: int, free: int) -> list[Finding]:
    """A run that does not fit on the disk; both in bytes."""
    if needed <= free:
        return []
    left = f"{size_text(free)} of disk are free where the results will lie"
    remedy = "free some, or set results to another disk"
    return [_warning(left, f"the {size_text(needed)} that a run will need", remedy)]


def _warning(found: str, expected: str, remedy: str) -> Finding:
    return Finding(found, expected, remedy, severity="warning")
