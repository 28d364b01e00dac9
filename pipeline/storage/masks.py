"""Masks of predicted cases: thresholded probabilities, and files in the source's geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.storage.batches import part_with
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import folder_of, mask_note
from pipeline.storage.images.geometry import Geometry, is_tilted
from pipeline.storage.images.source_grid import to_source_grid, to_working_grid
from pipeline.storage.images.volumes import read_volume, write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import Store, open_store, read_array

Mask = npt.NDArray[np.bool_]
GRID_KEYS = ("shape", "spacing", "origin", "direction")
SOURCE_GRID = "source_grid"  # the attribute of a store whose arrays lie on another than the file's
TOLERANCE = 1e-3  # NIfTI keeps positions and directions in single precision


def mask_suffix(store: Store) -> str:
    """Suffix of a case's mask file: `.mha` for MetaImage and tilted sources, else `.nii.gz`."""
    meta_image = str(store.attrs["source_suffix"]).lower().endswith((".mhd", ".mha"))
    return ".mha" if meta_image or is_tilted(source_geometry(store)) else ".nii.gz"


def geometry_of(attributes: Any) -> Geometry:
    """The grid that these attributes of a store describe."""
    return Geometry(*(tuple(attributes[key]) for key in GRID_KEYS))


def store_geometry(store: Store) -> Geometry:
    """The grid of a case's stored arrays, on which the stages work."""
    return geometry_of(store.attrs)


def source_geometry(store: Store) -> Geometry:
    """The grid of a case's image file, on which its masks are written."""
    return geometry_of(store.attrs.get(SOURCE_GRID, store.attrs))


def thresholded_mask(
    layout: Layout, experiment: str, subset: int, case: str, threshold: float
) -> Mask:
    """A prediction before post-processing: `(z, y, x)` bool, 1 = probability ≥ `threshold`.

    Raises:
        PipelineError: the store is missing or damaged, or a probability is not finite.
    """
    path = layout.prediction_store(experiment, subset, case)
    probability = read_array(open_store(path), "probability")
    if not np.isfinite(probability).all():
        fault = f"case {case}: {path} holds probabilities that are no numbers, expected 0 to 1"
        remedy = "the training diverged: lower training.learning_rate or use precision fp32"
        raise PipelineError(f"{fault}; {remedy}")
    return np.asarray(probability >= threshold)


def read_mask(layout: Layout, experiment: str, subset: int, case: str, store: Store) -> Mask:
    """A mask that postprocess wrote, on the grid of its case's `store`.

    It is `(z, y, x)` bool, 1 = lesion.

    Raises:
        PipelineError: the mask is missing, has changed, or lies on another grid than its case.
    """
    masks = layout.masks(experiment, subset)
    record = read_json(part_with(masks, case))["cases"].get(case)
    if record is None:
        raise PipelineError(f"case {case}: not in {masks}; run predict and postprocess again")
    path = folder_of(masks) / record["file"]
    _refuse_changed(path, case)
    volume, source = read_volume(path, tilted=True), source_geometry(store)
    for difference in grid_differences(volume.geometry, source):
        fault = f"case {case}: mask {path} has {difference}"
        raise PipelineError(f"{fault}; delete the mask and run postprocess again")
    return to_working_grid(volume.array > 0, source, store_geometry(store), nearest=True)


def write_on_source_grid(path: Path, array: npt.NDArray[Any], store: Store) -> None:
    """Write values (z, y, x) that lie on the grid of a case's `store` in its file's geometry."""
    source = source_geometry(store)
    array = array.astype(np.float32)  # in place of what was given, which may be large
    write_volume(path, to_source_grid(array, source, store_geometry(store)), source)


def has_mask(layout: Layout, experiment: str, subset: int, case: str) -> bool:
    """Whether postprocess lists a mask: given predictions may lack those of unlabelled cases."""
    return case in read_json(part_with(layout.masks(experiment, subset), case))["cases"]


def grid_differences(mask: Geometry, source: Geometry) -> list[str]:
    """What differs between a mask's grid and its source's: nothing, their shape, or the rest."""
    if mask.shape != source.shape:
        return [f"shape {mask.shape} (z, y, x), its source {source.shape}"]
    return [
        f"{name} {getattr(mask, name)}, its source {getattr(source, name)}"
        for name in ("spacing", "origin", "direction")
        if not np.allclose(getattr(mask, name), getattr(source, name), rtol=0, atol=TOLERANCE)
    ]


def _refuse_changed(path: Path, case: str) -> None:
    """Refuse a mask unlike its note: a plan misses one of an older time, or put there since."""
    if not path.exists():  # reading it reports that
        return
    note = mask_note(path, case)
    digest, noted = file_digest(path), read_json(note)["sha256"] if note.exists() else None
    if digest != noted:
        raise PipelineError(
            f"case {case}: mask {path} is not as postprocess wrote it, found SHA-256 {digest}, "
            f"expected {noted or 'the one noted'} in {note.name}; delete the mask and run again"
        )


def read_hu(store: Store) -> npt.NDArray[np.int16]:
    """A case's image `(z, y, x)` in HU.

    Raises:
        PipelineError: the image has other units.
    """
    if store.attrs["units"] != "HU":
        raise PipelineError(
            f"case {store.attrs['case']}: found an image in units {store.attrs['units']!r}, "
            "expected HU for calcium; use postprocess.method none or components and "
            "evaluation.metrics voxel, or set source.modality to CT"
        )
    return read_array(store, "image")
