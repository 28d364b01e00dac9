"""What one case is like, and all that is wrong with it, before anything is computed from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.components import lesion_sizes, voxel_volume_mm3
from grcsf.intensity import foreground_quantiles
from pipeline.check_record import CaseFacts
from pipeline.checks import geometry_faults
from pipeline.datasets import CaseFiles
from pipeline.doubts import case_doubts
from pipeline.errors import PipelineError
from pipeline.findings import Finding
from pipeline.ingest import case_content, case_key, read_case
from pipeline.intensity import intensity_range
from pipeline.settings import Dataset
from pipeline.store_sizes import map_bytes
from pipeline.stores import array_digest, compressed_bytes
from pipeline.volumes import Geometry, read_geometry

SAMPLED_SLICES = 12
SHOWN_QUANTILES = {"low": 0.005, "median": 0.5, "high": 0.995}


def case_facts(files: CaseFiles, dataset: Dataset) -> tuple[CaseFacts, list[Finding]]:
    """Read one case whole; describe it, and tell what was found. A fault raises nothing."""
    source = dataset.source
    loaded = read_case(files, source)
    known: dict[str, Any] = {
        "case": files.case,
        "group": files.group,
        "role": files.role,
        "labelled": files.label is not None,
        "grids": _unequal_grids(files, source.channel),
    }
    found = [*loaded.faults, *loaded.notes]
    if loaded.image is None:
        return CaseFacts(**known), found
    geometry = loaded.image.geometry
    known |= {"shape": geometry.shape, "spacing": geometry.spacing}
    if loaded.faults:
        return CaseFacts(**known), found
    known["fingerprint"] = case_key(files, source)[0]
    if loaded.label is not None:
        known |= _lesion_facts(loaded.label, geometry)
    modality = source.modality or files.modality
    arrays, attributes = case_content("", loaded, modality)
    image = arrays["image"]
    limits = intensity_range(attributes, dataset.slices)
    calcium = dataset.evaluation.metrics == "calcium"
    found = case_doubts(loaded, modality, limits, lesion_free=calcium)
    shown = foreground_quantiles(image, list(SHOWN_QUANTILES.values()))
    known |= {
        "voxel_digest": array_digest(image),
        "quantiles": dict(zip(SHOWN_QUANTILES, map(float, shown), strict=True)),
        "empty_slices": len(attributes["empty_slices"]),
        "store_bytes": sum(_stored(array) for array in arrays.values()),
        "map_bytes": map_bytes(len(image) - len(attributes["empty_slices"]), dataset.slices),
    }
    return CaseFacts(**known), found


def _lesion_facts(label: npt.NDArray[np.uint8], geometry: Geometry) -> dict[str, Any]:
    sizes, voxel_mm3 = lesion_sizes(label > 0), voxel_volume_mm3(geometry.spacing)
    return {
        "lesions": len(sizes),
        "each_lesion_voxels": sizes.tolist(),
        "each_lesion_mm3": (sizes * voxel_mm3).tolist(),
        "lesion_voxels": int(sizes.sum()),
        "lesion_ml": float(sizes.sum() * voxel_mm3 / 1000),
        "lesion_slices": int(np.count_nonzero(label.any(axis=(1, 2)))),
    }


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
