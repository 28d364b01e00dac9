"""Stage `ingest`: every case is read, checked, and written to its case store.

All cases are checked before the stage gives up, so that every fault of a data set is told at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

from grcsf.intensity import foreground_quantiles
from pipeline.datasets import CaseFiles, ListingError, list_cases
from pipeline.datasets.cases import list_files, source_files
from pipeline.datasets.loading import LoadedCase, load_case
from pipeline.errors import Finding, PipelineError
from pipeline.settings import QUANTILES, Source
from pipeline.storage.files import file_digest, fingerprint, write_json
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import file_stats, write_source_note
from pipeline.storage.zarr_store import store_attributes, write_store

VERSION = 2
log = logging.getLogger(__name__)
IN_MANIFEST = (
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


def ingest(
    layout: Layout, source: Source, root: Path, further: Sequence[Path], threads: int
) -> None:
    """Bring every case under `root` and the `further` images into stores; write their manifest.

    Raises:
        PipelineError: one line per fault of every case; with `on_error: skip` faulty cases are set
            aside in the manifest instead, and only a data set without any good case is refused.
    """
    files, unlisted = listed_cases(source, root, further)
    log.info("%d cases in %s", len(files), root)
    looks = file_stats([*list_files(root), *_all_files(files)])
    jobs = [dask.delayed(ingest_case)(layout, source, one) for one in files]
    results = dask.compute(*jobs, scheduler="threads", num_workers=threads)
    read = {path: file_digest(path) for path in list_files(root)}
    for _, of_case in results:
        read |= of_case
    cases = {one.case: found for one, (found, _) in zip(files, results, strict=True)}
    cases |= {name: {"faults": faults} for name, faults in unlisted.items()}
    faulty = {name: found["faults"] for name, found in cases.items() if found.get("faults")}
    for name, found in cases.items():
        for note in found.get("notes", ()):
            log.info("note: %s: %s", name, note)
    if faulty and (source.on_error == "stop" or len(faulty) == len(cases)):
        lines = [line for faults in faulty.values() for line in faults]
        raise PipelineError(
            "\n".join([f"{len(faulty)} of {len(cases)} cases cannot be used", *lines])
        )
    for faults in faulty.values():
        log.warning("set aside: %s", "; ".join(faults))
    kept = {name: found for name, found in cases.items() if name not in faulty}
    labelled = sum(one.label is not None for one in files)
    log.info("%d cases with reference, %d without", labelled, len(files) - labelled)
    write_source_note(layout.sources("ingest"), looks, read)
    write_json(
        layout.cases,
        {"cases": kept, "set_aside": faulty, "outputs": [f"{name}.zarr" for name in kept]},
    )


def listed_cases(
    source: Source, root: Path, further: Sequence[Path]
) -> tuple[list[CaseFiles], dict[str, list[str]]]:
    """The cases whose files belong together, and the faults of the others.

    Returns:
        The cases; and by case, or by file where no case is known, what is wrong with it.

    Raises:
        PipelineError: there is nothing that could be told apart.
    """
    try:
        return list_cases(source.adapter, root, further), {}
    except ListingError as error:
        if not error.cases:
            raise
        faults: dict[str, list[str]] = {}
        for one in error.findings:
            faults.setdefault(one.case or Path(one.file).name, []).append(str(one))
        return [one for one in error.cases if one.case not in faults], faults


def _all_files(cases: Iterable[CaseFiles]) -> Iterator[Path]:
    for one in cases:
        with suppress(OSError):  # told when the case is read
            yield from (Path(os.path.normpath(path)) for path in source_files(one))


def ingest_case(
    layout: Layout, source: Source, files: CaseFiles
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Store one case unless its store is current.

    Returns:
        Its manifest entry, or its `faults`; and the digests of the files that were read.
    """
    path = layout.case_store(files.case)
    try:
        key, digests = case_key(files, source)
        attributes = store_attributes(path)
    except PipelineError as error:
        return {"faults": [str(error)]}, {}
    folder = files.image.parent
    read = {Path(os.path.normpath(folder / name)): digest for name, digest in digests.items()}
    if attributes is None or attributes["fingerprint"] != key:
        loaded = read_case(files, source)
        if loaded.faults:
            return {"faults": list(map(str, loaded.faults))}, read
        arrays, made = case_content(layout.dataset, loaded, source.modality or files.modality)
        described = {"group": files.group, "role": files.role}
        write_store(path, arrays, {**made, **described, "fingerprint": key, "sources": digests})
        attributes = store_attributes(path)
        log.info("stored %s", files.case)
    assert attributes is not None
    return {name: attributes[name] for name in IN_MANIFEST if name in attributes}, read


def case_key(files: CaseFiles, source: Source) -> tuple[str, dict[str, str]]:
    """The fingerprint of a case store, and the digests of the files that it is made of.

    Raises:
        PipelineError: a file cannot be read.
    """
    try:
        sources = source_files(files)
        digests = {os.path.relpath(file, files.image.parent): file_digest(file) for file in sources}
    except OSError as error:
        reason = error.strerror or str(error)
        raise PipelineError(
            f"case {files.case}: {error.filename}: {reason}; expected a readable file"
        ) from error
    key = {
        "binarise": source.binarise,
        "foreground": source.foreground,
        "channel": source.channel,
        "modality": source.modality or files.modality,
        "group": files.group,
        "role": files.role,
        "notes": list(files.notes),
        "files": digests,
        "version": VERSION,
    }
    return fingerprint(key), digests


def read_case(files: CaseFiles, source: Source) -> LoadedCase:
    """A case as the data set's settings say that it is read, with all of its faults."""
    loaded = load_case(
        files,
        modality=source.modality,
        binarise=source.binarise,
        foreground=source.foreground,
        channel=source.channel,
    )
    # orCaScore's values are arteries, and told apart by its scores
    if source.foreground is not None or source.adapter == "orcascore" or loaded.label is None:
        return loaded
    values = np.unique(loaded.label[loaded.label > 0])
    if values.size < 2:
        return loaded
    told = Finding(
        f"label values {', '.join(map(str, values))}, all taken as lesion",
        "",
        "set source.foreground if some of them are not",
        str(files.label),
        files.case,
        "note",
    )
    return replace(loaded, notes=(*loaded.notes, told))


def case_content(
    dataset: str, loaded: LoadedCase, modality: str
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Arrays and attributes of a case store.

    Returns:
        `image` (z, y, x), HU as int16, other units as stored, and `label` (z, y, x) uint8 where
        there is one; and the attributes that design section 3 asks for.
    """
    assert loaded.image is not None
    image, geometry = loaded.image.array, loaded.image.geometry
    if modality == "CT":
        image = np.rint(image).astype(np.int16)
    arrays = {"image": image}
    if loaded.label is not None:
        arrays["label"] = loaded.label
    lesion = [] if loaded.label is None else np.flatnonzero(loaded.label.any(axis=(1, 2))).tolist()
    flat = image.reshape(len(image), -1)
    attributes = {
        "case": loaded.files.case,
        "dataset": dataset,
        "modality": modality,
        "units": "HU" if modality == "CT" else "as stored",
        "spacing": geometry.spacing,
        "origin": geometry.origin,
        "direction": geometry.direction,
        "shape": list(image.shape),
        "slices": len(image),
        "labelled": loaded.label is not None,
        "slices_with_lesion": lesion,
        "empty_slices": np.flatnonzero(flat.min(axis=1) == flat.max(axis=1)).tolist(),
        "quantiles": [float(value) for value in foreground_quantiles(image, QUANTILES)],
        "source_suffix": "".join(loaded.files.image.suffixes[-2:]),
        "notes": [one.found for one in loaded.notes],
    }
    return arrays, attributes
