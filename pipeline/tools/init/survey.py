"""What lies in a folder: its cases as an adapter lists them, and a sample of them read whole."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets import ADAPTERS, CaseFiles, ListingError, list_cases
from pipeline.datasets.cases import source_files
from pipeline.datasets.lists import read_description
from pipeline.datasets.loading import AIR_OR_FAT_HU, HU_RANGE, LoadedCase, load_case
from pipeline.datasets.recognised import fitting_adapter
from pipeline.errors import Finding, PipelineError, findings_of
from pipeline.storage.images.dicom.content import stated_modality
from pipeline.storage.images.geometry import Geometry, is_tilted
from pipeline.storage.images.source_grid import slice_plane, working_grid
from pipeline.storage.images.volumes import read_geometry

log = logging.getLogger(__name__)
LABELLED, UNLABELLED = 20, 4  # cases that are read, spread over the list
THICK = 3  # times as thick as the slices of the axial plane are
AIR_SHARE = 0.01  # of a CT's voxels are at least as light as fat
MARGIN = 16  # pixels around a lesion that belong to what is seen beside it
# of intensities around a lesion, and of a whole image
AROUND, WHOLE = (0.005, 0.995), (0.999, 1.0)
# how a case is read, in turn until it has no fault: each is a key of `source`
WAYS: tuple[dict[str, Any], ...] = ({}, {"binarise": True}, {"channel": 0})
WAYS += ({"channel": 0, "binarise": True},)


@dataclass(frozen=True)
class Sampled:
    """One case that was read."""

    case: str
    modality: str  # as listed, as DICOM states it, or by the range of values: CT or MR
    told_by: str  # what of these three told it
    grid: Geometry  # the working grid, whose slices are the proposed ones
    stored_as: str  # axial, coronal or sagittal slices in the file
    asked: dict[str, Any]  # keys of `source` without which it could not be read
    bright: tuple[float, float]  # the 99.9 % quantile above the minimum, and the maximum
    values: tuple[int, ...]  # of the label, above 0
    labelled: bool
    slices: int
    lesion_pixels: tuple[int, ...]  # of each slice with lesion
    around: tuple[float, float] | None  # intensities in and around the lesion, 0.5 % and 99.5 %


@dataclass(frozen=True)
class Survey:
    """A folder's cases, and those of them that were read."""

    root: Path
    adapter: str
    cases: list[CaseFiles]
    plane: str  # `slices.plane`
    foreground: tuple[int, ...] | None  # of the values, where others are named as no lesion
    sample: list[Sampled]
    faults: list[Finding]  # of cases that were read and cannot be used

    @property
    def labelled(self) -> list[CaseFiles]:
        """The cases with a label."""
        return [case for case in self.cases if case.label is not None]

    @property
    def groups(self) -> Counter[str]:
        """Labelled cases by group, those without one left out."""
        return Counter(case.group for case in self.labelled if case.group)


def survey(root: Path) -> Survey:
    """Look at a folder: list its cases, and read some of them.

    Raises:
        PipelineError: no adapter fits, the listing has faults, no case has a label, or none that
            was read can be used.
    """
    adapter = fitting_adapter(root)
    foreground = _foreground(adapter, root)
    cases = _listed(adapter, root, foreground)
    chosen = _spread(cases)
    plane = _plane(chosen)
    sample: list[Sampled] = []
    faults: list[Finding] = []
    for number, case in enumerate(chosen, 1):
        try:
            found, wrong = _sampled(case, plane, foreground)
        except Exception as error:  # whatever a library raises about one case leaves the others
            found, wrong = None, findings_of(error, case.image, case.case)
        sample += [found] if found else []
        faults += wrong
        log.debug("%s", case.case, extra={"done": number, "of": len(chosen)})
    if not any(each.values for each in sample):
        lesions = PipelineError(
            f"{root}: no label that was read holds a lesion; look at the labels"
        )
        raise PipelineError(*faults) if faults else lesions
    return Survey(root, adapter, cases, plane, foreground, sample, faults)


def _listed(adapter: str, root: Path, foreground: tuple[int, ...] | None) -> list[CaseFiles]:
    """The cases, of which some have a label."""
    fault: PipelineError | None = None
    try:
        cases = list_cases(adapter, root, (), foreground)
    except ListingError as error:
        cases, fault = error.cases, error
    if cases and all(case.label is None for case in cases):
        raise PipelineError(_nothing_to_train(root, adapter, len(cases)))
    if fault:
        raise fault
    return cases


def _plane(cases: Sequence[CaseFiles]) -> str:
    """`axial`, but `as_stored` where most scans were made in thick slices of another plane."""
    votes: Counter[str] = Counter()
    for case, channel in itertools.product(cases, (None, 0)):
        # an image has one volume or several; reading the case tells what else is wrong with it
        with suppress(PipelineError):
            source = read_geometry(case.image, channel, tilted=True)
            axial, stored = (working_grid(source, plane) for plane in ("axial", "as_stored"))
            aside = max(axial.spacing) >= THICK * axial.spacing[0]
            votes[
                "as_stored" if aside and stored.spacing[0] == max(axial.spacing) else "axial"
            ] += 1
    return votes.most_common(1)[0][0] if votes else "axial"


def _foreground(adapter: str, root: Path) -> tuple[int, ...] | None:
    """The label's values but those that are named as no lesion, as `ignore` is; None if none is."""
    try:
        cases = ADAPTERS[adapter](root)
    except ListingError as error:
        cases = error.cases
    outside = {value for case in cases for _, value in case.outside}
    if not outside:
        return None
    labels = read_description(root).get("labels")
    named = [*labels, *labels.values()] if isinstance(labels, dict) else []
    flat = [part for value in named for part in (value if isinstance(value, list) else [value])]
    values = {int(value) for value in flat if str(value).isdecimal()}
    return tuple(sorted(values - outside - {0})) or None


def _spread(cases: Sequence[CaseFiles]) -> list[CaseFiles]:
    """Some labelled cases and some others, spread over the list."""
    chosen: list[CaseFiles] = []
    for labelled, most in ((True, LABELLED), (False, UNLABELLED)):
        these = [case for case in cases if (case.label is not None) is labelled]
        places = np.linspace(0, len(these) - 1, min(most, len(these))).round().astype(int)
        chosen += [these[place] for place in places]
    return chosen


def _sampled(
    files: CaseFiles, plane: str, foreground: Sequence[int] | None
) -> tuple[Sampled | None, tuple[Finding, ...]]:
    """One case as it is, or its faults."""
    stated = stated_modality(source_files(files))
    faults: tuple[Finding, ...] = ()
    for asked in WAYS:
        lesion = None if "binarise" in asked else foreground
        read_as = {**asked, "modality": stated or None, "foreground": lesion}
        loaded = load_case(files, tilted="resample", plane=plane, **read_as)
        if not loaded.faults:
            return _facts(loaded, asked, stated), ()
        faults = faults or loaded.faults  # as the case is
    return None, faults


def _facts(loaded: LoadedCase, asked: dict[str, Any], stated: str) -> Sampled:
    assert loaded.image is not None
    assert loaded.source is not None
    image, label, files = loaded.image.array, loaded.label, loaded.files
    modality = files.modality or stated or ("CT" if _in_hu(image) else "MR")
    told_by = "the layout" if files.modality else "DICOM" if stated else "the range of values"
    thinned = image[:, ::2, ::2]
    above = thinned[thinned > image.min()]
    bright = np.quantile(above, WHOLE) if above.size else (image.min(), image.max())
    areas = [] if label is None else np.count_nonzero(label, axis=(1, 2))
    return Sampled(
        case=files.case,
        modality=modality,
        told_by=told_by,
        grid=loaded.image.geometry,
        stored_as=slice_plane(working_grid(loaded.source, "as_stored")),
        asked=dict(asked) | ({"tilted": "resample"} if is_tilted(loaded.source) else {}),
        bright=(float(bright[0]), float(image.max())),
        values=() if label is None else tuple(np.unique(label[label > 0]).tolist()),
        labelled=label is not None,
        slices=len(image),
        lesion_pixels=tuple(int(area) for area in areas if area),
        around=None if label is None or not label.any() else _around(image, label),
    )


def _in_hu(image: npt.NDArray[Any]) -> bool:
    """Whether values can be HU: of which some are as low as only air and fat are."""
    low, high = float(image.min()), float(image.max())
    share = np.count_nonzero(image < AIR_OR_FAT_HU) / image.size
    return bool(HU_RANGE[0] <= low and high <= HU_RANGE[1] and share > AIR_SHARE)


def _around(image: npt.NDArray[Any], label: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Quantiles of the intensities in the lesions' box and a margin of pixels in the plane."""
    z, y, x = (np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    rows, columns = (slice(max(0, side[0] - MARGIN), side[-1] + MARGIN + 1) for side in (y, x))
    low, high = np.quantile(image[z[0] : z[-1] + 1, rows, columns], AROUND)
    return float(low), float(high)


def _nothing_to_train(root: Path, adapter: str, count: int) -> str:
    found = f"{root}: {count} image{'s' * (count != 1)} as {adapter} lists them, none with a label"
    wanted = {
        "manifest": "fill in the column label",
        "dicom": "list each folder with its mask in a manifest.csv beside them, "
        "case,image,label (docs/how-to/own-data.md)",
        "msd": "put the labels that dataset.json lists into labelsTr",
        "nnunet": "put the labels into labelsTr",
        "orcascore": "put the references into a folder Reference standard",
        "atlas": "put each mask beside its scan",
    }[adapter]
    return f"{found}: nothing can be trained; {wanted}, or use grcsf predict with a trained run"
