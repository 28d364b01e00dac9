"""Reading one case, and finding all that is wrong with it before anything uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.cases import CaseFiles
from pipeline.errors import Finding, PipelineError
from pipeline.storage.images.geometry import Geometry, is_tilted
from pipeline.storage.images.source_grid import to_working_grid, working_grid
from pipeline.storage.images.volumes import Volume, read_label, read_volume

Mask = npt.NDArray[np.uint8]  # (z, y, x)

SPACING_TOLERANCE = 1e-3  # of the image's spacing
ORIGIN_TOLERANCE = 0.1  # of the image's smallest spacing: a tenth of a voxel
DIRECTION_TOLERANCE = 1e-3  # of each direction cosine
INTEGER_TOLERANCE = 1e-5  # error of labels that a header's slope has scaled
LABEL_MAXIMUM = 255
NO_LESION = "the label holds no lesion"

PLAUSIBLE_MM = (0.05, 20.0)
LARGEST_LESION_LITRES = 2
HU_RANGE = (-8192, 32767)  # wide, for padding values and metal; a case store holds int16
HU_SMALLEST_SPAN = 10
AIR_OR_FAT_HU = -150  # every CT shows some air, lung or fat below it
AIR_OR_FAT_SHARE = 1e-3
DENSE_HU = 500  # bone and metal lie above it, and soft tissue that still has 1024 added
DENSE_SHARE = 0.1


@dataclass(frozen=True)
class LoadedCase:
    """One case, read and checked; it can be used only if it has no `faults`."""

    files: CaseFiles
    image: Volume | None  # None if it could not be read; on its working grid if it has no faults
    label: Mask | None  # None if unlabelled or unusable; on the image's grid
    source: Geometry | None  # the grid of the image's file
    notes: tuple[Finding, ...]  # warnings and notes; those of `files` come first
    faults: tuple[Finding, ...]


def load_case(
    files: CaseFiles,
    *,
    modality: str | None = None,
    binarise: bool = False,
    foreground: Sequence[int] | None = None,
    channel: int | None = None,
    series: str | None = None,
    tilted: str = "refuse",
    plane: str = "as_stored",
) -> LoadedCase:
    """Read one case and list all of its faults; no fault is raised.

    `modality` None takes the adapter's; "CT" checks Hounsfield units. `binarise` makes label values
    above 0 to 1 (ATLAS has masks with a maximum near 0.01), else they must be whole numbers, of
    which only those in `foreground`, if given, stay. `channel` None refuses multi-channel images,
    `series` None a folder of several DICOM series. `tilted` and `plane` are the settings
    `source.tilted` and `slices.plane`.
    """
    aslant = tilted == "resample"
    image_reader = partial(read_volume, channel=channel, series=series, tilted=aslant)
    image, faults = _read(files, files.image, image_reader)
    notes = [Finding(note, severity="note") for note in files.notes]
    mask, source = None, None
    if image is not None:
        source = image.geometry
        notes += _of(files, files.image, [*image.notes, *spacing_doubts(source)])
        found = image_faults(image.array, modality=modality or files.modality)
        faults += _of(files, files.image, found)
    if files.label is not None:
        label_reader = partial(read_label, image=source, tilted=aslant)
        label, unreadable = _read(files, files.label, label_reader)
        faults += unreadable
        if label is not None:
            mask, found, unusable = _usable_mask(label, source, plane, binarise, foreground)
            notes += _of(files, files.label, found)
            faults += _of(files, files.label, unusable)
    if image is not None and not faults:
        image, mask = _on_working_grid(image, mask, plane)
    stored = None if mask is None else mask.array
    return LoadedCase(files, image, stored, source, tuple(notes), tuple(faults))


def _usable_mask(
    label: Volume,
    image: Geometry | None,
    plane: str,
    binarise: bool,
    foreground: Sequence[int] | None,
) -> tuple[Volume | None, list[Finding], list[Finding]]:
    """A label's mask on its own grid, with notes and faults; its grid has to be its image's."""
    mask, notes, faults = usable_label(label.array, binarise, foreground)
    if image is not None:
        faults += geometry_faults(*_compared(image, label.geometry, plane))
    if mask is None:
        return None, notes, faults
    volume = Volume(mask, label.geometry)
    return volume, [*notes, *lesion_doubts(volume)], faults


def _compared(image: Geometry, label: Geometry, plane: str) -> tuple[Geometry, Geometry]:
    """The two grids that have to agree: those of the files if tilted, else the working ones."""
    if is_tilted(image):
        return image, label
    return working_grid(image, plane), working_grid(label, plane)


def _on_working_grid(
    image: Volume, label: Volume | None, plane: str
) -> tuple[Volume, Volume | None]:
    """An image and its label, which agree, on the image's working grid."""
    source = image.geometry
    working = working_grid(source, plane)
    if label is not None:
        # its axes may be in another order; slices are moved by what the image says
        own = source if is_tilted(source) else label.geometry
        turned = to_working_grid(label.array, own, working_grid(own, plane), nearest=True)
        label = Volume(turned, working)
    return Volume(to_working_grid(image.array, source, working), working), label


def spacing_doubts(grid: Geometry) -> list[Finding]:
    """A warning of a spacing that no scanner makes: metres for millimetres, for example."""
    low, high = PLAUSIBLE_MM
    if all(low <= step <= high for step in grid.spacing):
        return []
    found = f"spacing {' × '.join(f'{step:g}' for step in grid.spacing)} mm (z, y, x)"
    remedy = "look whether the header's unit is right: volumes and scores follow from it"
    return [Finding(found, f"{low:g} to {high:g} mm", remedy, severity="warning")]


def lesion_doubts(label: Volume) -> list[Finding]:
    """A warning of a lesion that is larger than any can be; every value above 0 is lesion."""
    grid = label.geometry
    litres = float(np.prod(grid.spacing) * abs(np.linalg.det(grid.axes))) / 1e6  # of a voxel
    mask = label.array > 0
    if np.count_nonzero(mask) * litres <= LARGEST_LESION_LITRES:
        return []
    from grcsf.components import lesion_sizes  # imported here: ingest starts without scipy

    largest = float(lesion_sizes(mask).max()) * litres
    if largest <= LARGEST_LESION_LITRES:
        return []
    remedy = "look whether the spacing's unit is right, and what the label's values mean"
    expected = f"at most {LARGEST_LESION_LITRES} litres"
    return [Finding(f"a lesion of {largest:.3g} litres", expected, remedy, severity="warning")]


def image_faults(image: npt.NDArray[Any], *, modality: str) -> list[Finding]:
    """The faults of an image's values (z, y, x), for "CT" in HU, without case and file."""
    faults = []
    if broken := _not_finite(image):
        faults = [Finding(f"{broken} voxels with NaN or infinity", "none", "export it again")]
        image = image[np.isfinite(image)]
        if not image.size:
            return faults
    low, high = float(image.min()), float(image.max())
    if low == high:
        message, remedy = f"empty, every voxel is {low:g}", "export it again or remove the case"
        faults.append(Finding(message, "an image", remedy))
    elif modality == "CT" and (implausible := _implausible_hu(image, low, high)):
        message = f"values {low:g} … {high:g} are no plausible HU ({implausible})"
        remedy = "export it with its rescale slope and intercept applied, or set the modality"
        faults.append(Finding(message, "Hounsfield units", f"{remedy} if it is no CT"))
    return faults


def _implausible_hu(image: npt.NDArray[Any], low: float, high: float) -> str | None:
    """Why these cannot be Hounsfield units; None if they can."""
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        return f"expected values within {HU_RANGE[0]} … {HU_RANGE[1]}"
    if high - low <= HU_SMALLEST_SPAN:
        return "they look scaled to a small range"
    if low >= 0:
        return "no voxel lies below 0, where air, lung and fat must"
    # the lowest value may be padding, which stays below 0 despite an offset
    light = np.count_nonzero((image < AIR_OR_FAT_HU) & (image > low)) / image.size
    dense = np.count_nonzero(image > DENSE_HU) / image.size
    if light < AIR_OR_FAT_SHARE and dense > DENSE_SHARE:
        return "an offset such as 1024 seems to be left in"
    return None


def usable_label(
    label: npt.NDArray[Any], binarise: bool, foreground: Sequence[int] | None = None
) -> tuple[Mask | None, list[Finding], list[Finding]]:
    """The mask stored for a label (z, y, x), or None; its warnings and notes; its faults."""
    if faults := _label_faults(label, binarise):
        return None, [], faults
    mask, notes = _binarised(label) if binarise else _selected(label, foreground)
    if not mask.any():
        remedy = "look whether the mask was lost; keep the case if the patient has none"
        notes.append(Finding(NO_LESION, "a lesion", remedy, severity="warning"))
    return mask, notes, []


def _label_faults(label: npt.NDArray[Any], binarise: bool) -> list[Finding]:
    if broken := _not_finite(label):
        return [Finding(f"{broken} label voxels with NaN or infinity", "none", "export it again")]
    low, high = label.min(), label.max()
    faults = []
    if low < 0:
        faults.append(Finding(f"label {low:g}", "none below 0", "redraw or export it again"))
    if not binarise and not _are_whole(label):
        remedy = "set source.binarise or redraw"
        faults.append(Finding("labels that are no whole numbers", "0, 1, …", remedy))
    if not binarise and high > LABEL_MAXIMUM:
        faults.append(Finding(f"label {high:g}", f"at most {LABEL_MAXIMUM}", "renumber"))
    return faults


def _binarised(label: npt.NDArray[Any]) -> tuple[Mask, list[Finding]]:
    """All values above 0 as 1, and a warning if that changed any value."""
    high = label.max()
    remedy = "look whether the mask was only scaled; a blurred one grows by this: redraw it"
    message = f"values up to {high:.4g} binarised at > 0"
    warning = Finding(message, "0 and 1", remedy, severity="warning")
    return (label > 0).astype(np.uint8), [] if _are_whole(label) and high <= 1 else [warning]


def _selected(
    label: npt.NDArray[Any], foreground: Sequence[int] | None
) -> tuple[Mask, list[Finding]]:
    """The foreground's values, and a note that names values set to 0."""
    mask = np.rint(label).astype(np.uint8)
    if foreground is None:
        return mask, []
    others = sorted({*np.unique(mask).tolist()} - {0, *foreground})
    mask[~np.isin(mask, foreground)] = 0
    listed = ", ".join(map(str, others))
    message = f"label values {listed} taken as background, as source.foreground says"
    return mask, [Finding(message, severity="note")] if others else []


def geometry_faults(image: Geometry, label: Geometry) -> list[Finding]:
    """A fault for each way in which a label's grid differs from its image's beyond tolerance."""
    faults = []
    if label.shape != image.shape:
        expected = f"the image's {image.shape} (z, y, x)"
        faults = [Finding(f"label shape {label.shape}", expected, "resample the label")]
    spacing = np.array(image.spacing)
    tolerances = {
        "spacing": (SPACING_TOLERANCE * spacing, " mm"),
        "origin": (ORIGIN_TOLERANCE * spacing.min(), " mm"),
        "direction": (DIRECTION_TOLERANCE, ""),
    }
    remedy = "resample the label on to the image, or correct the header that is wrong"
    for name, (tolerance, unit) in tolerances.items():
        both = [getattr(grid, name) for grid in (label, image)]
        if np.any(np.abs(np.subtract(*both)) > tolerance):
            own, other = (", ".join(f"{value:.6g}" for value in values) for values in both)
            expected = f"the image's ({other}){unit} (z, y, x)"
            faults.append(Finding(f"label {name} ({own}){unit}", expected, remedy))
    return faults


def _not_finite(array: npt.NDArray[Any]) -> int:
    return 0 if array.dtype.kind in "biu" else int(np.count_nonzero(~np.isfinite(array)))


def _are_whole(label: npt.NDArray[Any]) -> bool:
    whole = label.dtype.kind in "biu"
    return whole or bool(np.all(np.abs(label - np.rint(label)) <= INTEGER_TOLERANCE))


def _read(
    files: CaseFiles, path: Path, reader: Callable[[Path], Volume]
) -> tuple[Volume | None, list[Finding]]:
    try:
        return reader(path), []
    except PipelineError as error:
        return None, _of(files, path, error.findings)


def _of(files: CaseFiles, path: Path, findings: Sequence[Finding]) -> list[Finding]:
    return [
        replace(finding, case=files.case, file=finding.file or str(path)) for finding in findings
    ]
