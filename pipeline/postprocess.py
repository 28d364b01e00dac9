"""Stage `postprocess`: turns probabilities into masks in the source's geometry (design 7)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from grcsf.calcium import postprocess_calcium
from grcsf.components import filter_components
from pipeline.settings import Postprocess
from pipeline.storage.batches import ALL, batch_part, drop_other_parts
from pipeline.storage.files import file_digest, fingerprint, read_json, remembered, write_json
from pipeline.storage.folders import folder_of, listed, mask_note
from pipeline.storage.images.source_grid import to_source_grid
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import (
    SOURCE_GRID,
    Mask,
    mask_suffix,
    read_hu,
    source_geometry,
    store_geometry,
    thresholded_mask,
    write_on_source_grid,
)
from pipeline.storage.zarr_store import Store, open_store, read_array

VERSION = 1
log = logging.getLogger(__name__)


def postprocess(
    layout: Layout, experiment: str, subset: int, settings: Postprocess, batch: str = ALL
) -> None:
    """Write a mask for each predicted case of a batch, and their manifest.

    One case at a time is in memory.

    Beside each mask of an ensemble lies how far its networks disagree, where that was asked for.

    Raises:
        PipelineError: a store is missing or damaged, not finite, or for calcium not in HU.
    """
    part = batch_part(subset, batch)
    predictions = read_json(layout.predictions(experiment, part))
    predicted, masks = predictions["cases"], layout.masks(experiment, subset)
    records: dict[str, dict[str, Any]] = {}
    files: list[Path] = []
    volumes: list[Path] = []
    for case, prediction in predicted.items():
        store = open_store(layout.case_store(case))
        suffix = mask_suffix(store)
        path = layout.mask(experiment, subset, case, suffix)
        key = _mask_key(prediction, store, settings, suffix)
        if (record := _current_record(path, case, key)) is None or "voxels" not in record:
            raw = thresholded_mask(layout, experiment, subset, case, settings.probability)
            working, source = store_geometry(store), source_geometry(store)
            mask = to_source_grid(final_mask(raw, store, settings), source, working)
            # the challenge takes one int16 MetaImage per case
            dtype = np.int16 if suffix == ".mha" else np.uint8
            write_volume(path, mask.astype(dtype), source)
            voxels = int(np.count_nonzero(mask))
            record = {"fingerprint": key, "voxels": voxels, "sha256": file_digest(path)}
            write_json(mask_note(path, case), record)
            progress = {"done": len(records) + 1, "of": len(predicted)}
            told = (experiment, subset, path.name, voxels)
            log.info("%s, subset %d: %s, %d voxels", *told, extra=progress)
        file = path.relative_to(folder_of(masks)).as_posix()
        records[case] = {"file": file, "voxels": record["voxels"], "fingerprint": key}
        files.append(path)
        if predictions.get("uncertainty"):
            volumes.append(_keep_uncertainty(layout, experiment, subset, case, key, suffix))
    manifest = layout.masks(experiment, part)
    outputs = listed([*files, *volumes], manifest)
    write_json(manifest, {"cases": records, "outputs": outputs})
    drop_other_parts(masks, batch)


def final_mask(raw: Mask, store: Store, settings: Postprocess) -> Mask:
    """A thresholded prediction after post-processing, `(z, y, x)` bool, 1 = lesion.

    `components` drops small lesions, `calcium` also all that is not > 130 HU; `raw` may be changed.

    Raises:
        PipelineError: calcium is asked for in an image that is not in HU.
    """
    spacing: Any = store.attrs["spacing"]
    match settings.method:
        case "none":
            return raw
        case "components":
            return filter_components(raw, spacing, settings.min_volume_mm3, in_place=True)
        case "calcium":
            options = settings.model_dump(exclude={"probability", "method"})
            return postprocess_calcium(raw, read_hu(store), spacing, **options, in_place=True)


def _mask_key(prediction: str, store: Store, settings: Postprocess, suffix: str) -> str:
    """The fingerprint of a case's mask."""
    parts = {
        "prediction": prediction,
        "image": store.attrs["sha256_image"],
        "geometry": [store.attrs[name] for name in ("spacing", "origin", "direction")],
        "settings": settings.model_dump(mode="json"),
        "suffix": suffix,
        "version": VERSION,
    }
    if SOURCE_GRID in store.attrs:
        parts["source"] = store.attrs[SOURCE_GRID]
    return fingerprint(parts)


def _keep_uncertainty(
    layout: Layout, experiment: str, subset: int, case: str, key: str, suffix: str
) -> Path:
    """Write a case's uncertainty in the source's geometry, and return the file."""
    path = layout.uncertainty(experiment, subset, case, suffix)
    if _current_record(path, case, key) is None:
        case_store = open_store(layout.case_store(case))
        predicted = open_store(layout.prediction_store(experiment, subset, case))
        write_on_source_grid(path, read_array(predicted, "uncertainty"), case_store)
        write_json(mask_note(path, case), {"fingerprint": key, "sha256": file_digest(path)})
    return path


def _current_record(mask: Path, case: str, key: str) -> dict[str, Any] | None:
    """The note beside a mask, if it has this fingerprint and the mask is unchanged; else None."""
    record = remembered(mask_note(mask, case))
    if record is None or not mask.is_file():
        return None
    current = record.get("fingerprint") == key and record.get("sha256") == file_digest(mask)
    return record if current else None
