"""What one case is like, and all that is wrong with it, before anything is computed from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.components import lesion_sizes, voxel_volume_mm3
from grcsf.intensity import foreground_quantiles
from pipeline.checks import geometry_faults
from pipeline.datasets import CaseFiles
from pipeline.errors import PipelineError
from pipeline.ingest import case_content, case_key, read_case
from pipeline.settings import Slices, Source
from pipeline.stores import compressed_bytes
from pipeline.volumes import Geometry, read_geometry

SAMPLED_SLICES = 12
# A residual is noise to a compressor: measured on phantoms and real images, a map's value takes
# 1.67 to 1.79 of its 2 bytes, and 1.4 where most of the image is a background of zeros.
MAP_VALUE_BYTES = 1.75
SHOWN_QUANTILES = {"low": 0.005, "median": 0.5, "high": 0.995}


@dataclass(frozen=True)
class CaseFacts:
    """One case; sizes are None where the image or the label could not be read.

    Attributes:
        case: its name.
        group: cohort, hospital or vendor.
        role: what the data set itself makes of it, or "".
        labelled: whether it has a reference.
        faults: one line each, what makes it unusable.
        notes: one line each, worth knowing.
        fingerprint: of its files and how they are read, as its case store has it.
        shape: voxels (z, y, x).
        spacing: mm (z, y, x).
        quantiles: of the voxels above the image's minimum, in the source's units.
        empty_slices: constant ones.
        lesions: 3D 6-connected components of the reference.
        lesion_voxels: of all of them.
        lesion_ml: the same in ml.
        lesion_slices: slices with lesion.
        store_bytes: what the case store will take, about.
        map_bytes: what one residual map will take, about.
        grids: the image's and the label's grid, where they do not agree.
    """

    case: str
    group: str
    role: str
    labelled: bool
    faults: list[str]
    notes: list[str]
    fingerprint: str | None = None
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    quantiles: dict[str, float] = field(default_factory=dict)
    empty_slices: int | None = None
    lesions: int | None = None
    lesion_voxels: int | None = None
    lesion_ml: float | None = None
    lesion_slices: int | None = None
    store_bytes: int | None = None
    map_bytes: int | None = None
    grids: tuple[Geometry, Geometry] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; the grids are left to the picture."""
        content = asdict(self)
        del content["grids"]
        return content


def case_facts(files: CaseFiles, source: Source, slices: Slices) -> CaseFacts:
    """Read one case whole and describe it; a fault raises nothing."""
    loaded = read_case(files, source)
    known: dict[str, Any] = {
        "case": files.case,
        "group": files.group,
        "role": files.role,
        "labelled": files.label is not None,
        "faults": list(loaded.faults),
        "notes": list(loaded.notes),
        "grids": _unequal_grids(files, source.channel),
    }
    if loaded.image is None:
        return CaseFacts(**known)
    known["fingerprint"] = case_key(files, source)[0]
    geometry = loaded.image.geometry
    known |= {"shape": geometry.shape, "spacing": geometry.spacing}
    if loaded.faults:
        return CaseFacts(**known)
    if loaded.label is not None:
        sizes = lesion_sizes(loaded.label > 0)
        known |= {
            "lesions": len(sizes),
            "lesion_voxels": int(sizes.sum()),
            "lesion_ml": float(sizes.sum() * voxel_volume_mm3(geometry.spacing) / 1000),
            "lesion_slices": int(np.count_nonzero(loaded.label.any(axis=(1, 2)))),
        }
    arrays, attributes = case_content("", loaded, source.modality or files.modality)
    image = arrays["image"]
    shown = foreground_quantiles(image, list(SHOWN_QUANTILES.values()))
    known |= {
        "quantiles": dict(zip(SHOWN_QUANTILES, map(float, shown), strict=True)),
        "empty_slices": len(attributes["empty_slices"]),
        "store_bytes": sum(_stored(array) for array in arrays.values()),
        "map_bytes": _map_bytes(len(image) - len(attributes["empty_slices"]), slices),
    }
    return CaseFacts(**known)


def _unequal_grids(files: CaseFiles, channel: int | None) -> tuple[Geometry, Geometry] | None:
    if files.label is None:
        return None
    try:
        grids = read_geometry(files.image, channel), read_geometry(files.label)
    except PipelineError:
        return None  # what cannot be read is among the faults already
    return grids if geometry_faults(*grids) else None


def _sample(count: int) -> npt.NDArray[np.int64]:
    """About evenly spread slice numbers."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED_SLICES)).round().astype(np.int64))


def _stored(array: npt.NDArray[Any]) -> int:
    sampled = _sample(len(array))
    return round(sum(map(compressed_bytes, array[sampled])) * len(array) / len(sampled))


def _map_bytes(seen: int, slices: Slices) -> int:
    """What a residual map of so many slices that are not empty will take."""
    height, width = slices.size
    return round(MAP_VALUE_BYTES * seen * height * width)
