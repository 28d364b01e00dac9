"""Stage `ingest`: checks every case before it fails for any, and writes the case stores."""

from __future__ import annotations

import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pipeline.datasets.left_out import left_out
from pipeline.datasets.loading import LoadedCase, load_case
from pipeline.errors import Finding, PipelineError, findings_of
from pipeline.settings import HEALTHY, QUANTILES, FurtherImage, Source, external_set
from pipeline.storage.files import file_digest, fingerprint, write_json
from pipeline.storage.folders import note_many
from pipeline.storage.images.source_grid import working_grid
from pipeline.storage.layout import Layout, listed
from pipeline.storage.masks import GRID_KEYS, SOURCE_GRID, geometry_of
from pipeline.storage.source_notes import file_stats, write_source_note
from pipeline.storage.zarr_store import store_attributes, write_store

VERSION = 2
log = logging.getLogger(__name__)
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


def ingest(
    layout: Layout,
    source: Source,
    root: Path,
    further: Sequence[FurtherImage],
    threads: int,
    plane: str = "as_stored",
) -> None:
    """Store every case under `root` and the `further` images, and write their manifest.

    `plane` is `slices.plane`.

    Raises:
        PipelineError: a case is faulty (with `on_error: skip`: all are); a line for each fault.
    """
    files, unlisted = listed_cases(source, root, further, layout.root)
    log.info("%d cases in %s", len(files), root)
    sources = {each.role: each.source for each in further if each.source}
    lists = [
        *list_files(root),
        *(file for each in further if each.source for file in list_files(each.path)),
    ]
    stats = file_stats([*lists, *_all_files(files)])
    note_many(layout.by_digest, len(files))
    done = itertools.count(1)

    def ingested(case: CaseFiles) -> tuple[dict[str, Any], dict[Path, str]]:
        result = ingest_case(layout, sources.get(case.role, source), case, plane)
        log.debug("%s", case.case, extra={"done": next(done), "of": len(files)})
        return result

    jobs = [dask.delayed(ingested)(case) for case in files]
    results = dask.compute(*jobs, scheduler="threads", num_workers=threads)
    digests = {path: file_digest(path) for path in lists}
    for _, case_digests in results:
        digests |= case_digests
    kept, faulty = _sorted_out(
        {case.case: entry for case, (entry, _) in zip(files, results, strict=True)}
    )
    faulty |= unlisted
    if faulty and (source.on_error == "stop" or not kept):
        count = f"{len(faulty)} of {len(faulty) + len(kept)} cases cannot be used"
        raise PipelineError("\n".join([count, *itertools.chain(*faulty.values())]))
    for faults in faulty.values():
        log.warning("set aside: %s", "; ".join(faults))
    external = sum(bool(external_set(case.role)) for case in files)
    own = [case for case in files if not external_set(case.role)]
    labelled = sum(case.label is not None for case in own)
    healthy = sum(case.role == HEALTHY for case in own)
    unlabelled = len(own) - labelled - healthy
    told = f", {external} of external data sets" if external else ""
    counts = (labelled, unlabelled, healthy, told)
    log.info("%d cases with reference, %d without, %d healthy%s", *counts)
    write_source_note(layout.sources("ingest"), stats, digests)
    outputs = listed(map(layout.case_store, kept), layout.cases)
    write_json(layout.cases, {"cases": kept, "set_aside": faulty, "outputs": outputs})


def listed_cases(
    source: Source, root: Path, further: Sequence[FurtherImage], results: Path | None = None
) -> tuple[list[CaseFiles], dict[str, list[str]]]:
    """The cases whose files fit together; the faults of others by case, or by an unknown's file.

    What the listing passes over is logged; below `results` lies nothing of it.

    Raises:
        PipelineError: the data set cannot be listed, or no case can be told apart.
    """
    found: Sequence[Finding] = ()
    try:
        files = list_cases(source.adapter, root, further, source.foreground)
    except ListingError as error:
        if not error.cases:
            raise
        files, found = error.cases, error.findings
    own = [case for case in files if not external_set(case.role)]
    passed = left_out(source, root, own, found, results)
    for each in further:
        if each.source:
            others = [case for case in files if case.role == each.role]
            passed += left_out(each.source, each.path, others, found, results)
    for finding in passed:
        log.log(logging.WARNING if finding.severity == "warning" else logging.INFO, "%s", finding)
    faults: dict[str, list[str]] = defaultdict(list)
    for finding in found:
        faults[finding.case or Path(finding.file).name].append(str(finding))
    return [case for case in files if case.case not in faults], dict(faults)


def _sorted_out(
    entries: Mapping[str, dict[str, Any]],
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """The entries of usable cases, and the faults of the others."""
    for case, entry in entries.items():
        for note in entry.get("notes", ()):
            log.info("note: %s: %s", case, note)
    faulty = {case: entry["faults"] for case, entry in entries.items() if "faults" in entry}
    kept = {case: entry for case, entry in entries.items() if case not in faulty}
    facts = ((case, entry["sha256_image"], entry["role"]) for case, entry in kept.items())
    twins = {twin.case: [str(twin)] for twin in role_twins(facts)}
    return {case: kept[case] for case in kept if case not in twins}, faulty | twins


def role_twins(cases: Iterable[tuple[str, str, str]]) -> list[Finding]:
    """A fault for each healthy or external case with the voxels of a case that is none.

    `cases`: name, digest of the voxels, role. Otherwise a masked model would learn what is tested,
    or take a lesion for healthy, and networks would be tested on what they have learnt.
    """
    listed = list(cases)
    others = {digest: name for name, digest, role in listed if role != HEALTHY}
    inside = {digest: name for name, digest, role in listed if not external_set(role)}
    scan = "a healthy scan", "remove it from the healthy scans: what is tested would be learnt"
    case = "an external case", "remove it there: what is learnt from would be tested"
    findings = []
    for name, digest, role in listed:
        known = inside if external_set(role) else others if role == HEALTHY else {}
        if digest in known:
            what, remedy = scan if role == HEALTHY else case
            found = f"{what} with the voxels of {known[digest]}"
            findings.append(Finding(found, "another image", remedy, case=name))
    return findings


def _all_files(cases: Iterable[CaseFiles]) -> Iterator[Path]:
    for files in cases:
        with suppress(OSError):  # reading the case reports it
            yield from (Path(os.path.normpath(path)) for path in source_files(files))


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
    return {name: attributes[name] for name in MANIFEST_KEYS if name in attributes}, sources


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
