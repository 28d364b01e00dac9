"""The store of a case: what it is made from, and what it holds (design 3)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.intensity import foreground_quantiles
from pipeline.datasets import CaseFiles
from pipeline.datasets.cases import source_files
from pipeline.datasets.loading import LoadedCase, load_case
from pipeline.errors import Finding, PipelineError, findings_of
from pipeline.settings import QUANTILES, Source
from pipeline.storage.files import file_digest, fingerprint
from pipeline.storage.images.source_grid import working_grid
from pipeline.storage.layout import Layout, stage_version
from pipeline.storage.masks import GRID_KEYS, SOURCE_GRID, geometry_of
from pipeline.storage.zarr_store import store_attributes, write_store

log = logging.getLogger(__name__)
VERSION = stage_version("ingest")
MANIFEST_KEYS = (
    "dataset",
    "empty_slices",
    "fingerprint",
    "group",
    "labelled",
    "notes",
    "quantiles",
    "role",
    "sha256_image",
    "sha256_label",
    "shape",
    "slices",
    "slices_with_lesion",
    "spacing",
)


def ingest_case(
    layout: Layout, source: Source, files: CaseFiles, plane: str = "as_stored"
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Store a case that is not yet; its entry in the manifest, or `faults`, and files' digests."""
    try:
        return _stored_case(layout, source, files, plane)
    except Exception as error:  # whatever a library raises about one case leaves the others
        return {"faults": list(map(str, findings_of(error, files.image, files.case)))}, {}


def _stored_case(
    layout: Layout, source: Source, files: CaseFiles, plane: str
) -> tuple[dict[str, Any], dict[Path, str]]:
    path = layout.case_store(files.case)
    key, digests = case_key(files, source)
    attributes = store_attributes(path)
    folder = files.image.parent
    sources = {Path(os.path.normpath(folder / name)): digest for name, digest in digests.items()}
    turned_key = fingerprint({"case": key, "plane": plane, "tilted": source.tilted})
    if attributes is None or not _is_current(attributes, key, turned_key, plane):
        loaded = read_case(files, source, plane)
        if loaded.faults:
            return {"faults": list(map(str, loaded.faults))}, sources
        arrays, content = case_content(layout.dataset, loaded, source.modality or files.modality)
        listed = {"group": files.group, "role": files.role}
        made_as = turned_key if SOURCE_GRID in content else key
        write_store(path, arrays, {**content, **listed, "fingerprint": made_as, "sources": digests})
        attributes = store_attributes(path)
        log.info("stored %s", files.case)
    assert attributes is not None
    image = {} if source.labels else {"image": str(files.image)}  # a scan's row names its file
    kept = {name: attributes[name] for name in MANIFEST_KEYS if name in attributes}
    return kept | image, sources


def _is_current(attributes: Mapping[str, Any], key: str, turned_key: str, plane: str) -> bool:
    """Whether a store is what these settings would make; `turned_key`: on a grid of its own.

    So a case whose grid no setting changes stays what it was before there were such settings.
    """
    if SOURCE_GRID in attributes:
        return bool(attributes["fingerprint"] == turned_key)
    grid = geometry_of(attributes)
    return bool(attributes["fingerprint"] == key) and working_grid(grid, plane) == grid


def case_key(files: CaseFiles, source: Source) -> tuple[str, dict[str, str]]:
    """The fingerprint of a case store on the file's grid, and its source files' digests by path.

    Raises:
        PipelineError: a file cannot be read.
    """
    try:
        sources = source_files(files)
        digests = {os.path.relpath(file, files.image.parent): file_digest(file) for file in sources}
    except OSError as error:
        reason = f"{error.strerror or error}; expected a readable file"
        raise PipelineError(f"case {files.case}: {error.filename}: {reason}") from error
    key = {
        **source.model_dump(include={"binarise", "foreground", "channel", "series"}),
        "modality": source.modality or files.modality,
        "group": files.group,
        "role": files.role,
        "notes": list(files.notes),
        "files": digests,
        "version": VERSION,
    }
    return fingerprint(key), digests


def read_case(files: CaseFiles, source: Source, plane: str = "as_stored") -> LoadedCase:
    """A case, read as the data set's settings say, with all of its faults."""
    chosen = source.model_dump(
        include={"modality", "binarise", "foreground", "channel", "series", "tilted"}
    )
    loaded = load_case(files, **chosen, plane=plane)
    # orCaScore's values are arteries, which its scores tell apart
    if source.foreground is not None or source.adapter == "orcascore" or loaded.label is None:
        return loaded
    if (values := np.unique(loaded.label[loaded.label > 0])).size < 2:
        return loaded
    message = f"label values {', '.join(map(str, values))}, all taken as lesion"
    remedy = "set source.foreground if some of them are not"
    note = Finding(message, "", remedy, str(files.label), files.case, "note")
    return replace(loaded, notes=(*loaded.notes, note))


def case_content(
    dataset: str, loaded: LoadedCase, modality: str
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """A case's `image` (z, y, x), int16 if HU, `label` (z, y, x) uint8; attributes (design 3)."""
    assert loaded.image is not None
    image, geometry = loaded.image.array, loaded.image.geometry
    if modality == "CT":
        image = np.rint(image).astype(np.int16)
    label = loaded.label
    arrays = {"image": image} if label is None else {"image": image, "label": label}
    lesion = [] if label is None else np.flatnonzero(label.any(axis=(1, 2))).tolist()
    flat = image.reshape(len(image), -1)
    attributes: dict[str, Any] = {
        "case": loaded.files.case,
        "dataset": dataset,
        "modality": modality,
        "units": "HU" if modality == "CT" else "as stored",
        "spacing": geometry.spacing,
        "origin": geometry.origin,
        "direction": geometry.direction,
        "shape": list(image.shape),
        "slices": len(image),
        "labelled": label is not None,
        "slices_with_lesion": lesion,
        "empty_slices": np.flatnonzero(flat.min(axis=1) == flat.max(axis=1)).tolist(),
        "quantiles": [float(value) for value in foreground_quantiles(image, QUANTILES)],
        "source_suffix": "".join(loaded.files.image.suffixes[-2:]),
        "notes": [note.found for note in loaded.notes],
    }
    if loaded.source is not None and loaded.source != geometry:
        attributes[SOURCE_GRID] = {key: getattr(loaded.source, key) for key in GRID_KEYS}
    return arrays, attributes
