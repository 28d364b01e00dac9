"""Stage `ingest`: checks every case before it fails for any, and writes the case stores."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask

from pipeline.datasets import CaseFiles
from pipeline.datasets.cases import list_files
from pipeline.errors import Finding, PipelineError
from pipeline.ingestion.batch_entries import (
    all_files,
    drop_other_batches,
    entries_of_batches,
    forget_refused,
    listed_as_key,
    planned_manifests,
    reading_of,
)
from pipeline.ingestion.case_stores import ingest_case
from pipeline.ingestion.listing import listed_cases
from pipeline.settings import HEALTHY, FurtherImage, Source, external_set
from pipeline.storage.batches import ALL, in_batch
from pipeline.storage.files import file_digest, write_json
from pipeline.storage.folders import listed, note_many
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import FileStats, file_stats, write_source_note

VERSION = 2
log = logging.getLogger(__name__)


def ingest(
    layout: Layout,
    source: Source,
    root: Path,
    further: Sequence[FurtherImage],
    threads: int,
    plane: str = "as_stored",
    batch: str = ALL,
    cases_per_job: int | None = None,  # without it, one job has all
) -> None:
    """Store every case under `root` and the `further` images, and write their manifest.

    `plane` is `slices.plane`. A `batch` of cases has a manifest of its own, and sets faulty ones
    aside, for the job of all cases to refuse: it takes over what batches have stored, where there
    are more cases than one job may have. What divides them otherwise is deleted.

    Raises:
        PipelineError: a case is faulty (with `on_error: skip`: all are); a line for each fault.
    """
    files, unlisted, aside = listed_cases(source, root, further, layout.root, tell=not batch)
    note_many(layout.by_digest, len(files))
    reading = {"": source, **{each.role: each.source for each in further if each.source}}
    if batch:
        files = [case for case in files if in_batch(case.case, batch)]
        seen = file_stats(all_files(case for case in aside if in_batch(case.case, batch)))
        _ingest_batch(layout, files, seen, reading, threads, plane, batch)
        return
    log.info("%d cases in %s", len(files), root)
    folders = [root, *(each.path for each in further if each.source)]
    lists = [file for folder in folders for file in list_files(folder)]
    stats = file_stats([*lists, *all_files(aside)])
    digests = {path: file_digest(path) for path in lists}
    manifests = planned_manifests(layout, len(files) + len(aside), cases_per_job)
    entries = entries_of_batches(layout, manifests, files, reading, plane)
    left = [case for case in files if case.case not in entries]
    made, case_stats, case_digests = _ingest_cases(layout, left, reading, threads, plane)
    entries |= made
    kept, faulty = _sorted_out({case.case: entries[case.case] for case in files})
    faulty |= unlisted
    if faulty and (source.on_error == "stop" or not kept):
        forget_refused(manifests)
        title = f"{len(faulty)} of {len(faulty) + len(kept)} cases cannot be used"
        raise PipelineError("\n".join([title, *itertools.chain(*faulty.values())]))
    for faults in faulty.values():
        log.warning("set aside: %s", "; ".join(faults))
    _tell_counts(files)
    write_source_note(layout.sources("ingest"), stats | case_stats, digests | case_digests)
    stores = (layout.case_store(case.case) for case in left if case.case in kept)
    outputs = listed(stores, layout.cases)
    write_json(layout.cases, {"cases": kept, "set_aside": faulty, "outputs": outputs})
    drop_other_batches(layout, manifests)


def _ingest_batch(
    layout: Layout,
    files: Sequence[CaseFiles],
    seen: Mapping[Path, FileStats],  # of cases that the listing sets aside
    reading: Mapping[str, Source],
    threads: int,
    plane: str,
    batch: str,
) -> None:
    entries, stats, digests = _ingest_cases(layout, files, reading, threads, plane)
    faulty = {case: entry["faults"] for case, entry in entries.items() if "faults" in entry}
    kept = {case: entry for case, entry in entries.items() if case not in faulty}
    log.info("batch %s: %d cases, %d of them faulty", batch, len(entries), len(faulty))
    manifest = layout.ingest_batch(batch)
    write_source_note(layout.sources(layout.work_of(manifest)), {**seen, **stats}, digests)
    content: dict[str, Any] = {"cases": kept, "set_aside": faulty}
    content["listed"] = {case.case: listed_as_key(case, reading, plane) for case in files}
    outputs = listed(map(layout.case_store, kept), manifest)
    write_json(manifest, {**content, "outputs": outputs})


def _ingest_cases(
    layout: Layout,
    files: Sequence[CaseFiles],
    reading: Mapping[str, Source],
    threads: int,
    plane: str,
) -> tuple[dict[str, dict[str, Any]], dict[Path, FileStats], dict[Path, str]]:
    """Entries of cases by name, and the files' states from before they were read and digests."""
    stats = file_stats(all_files(files))
    done = itertools.count(1)

    def ingested(case: CaseFiles) -> tuple[dict[str, Any], dict[Path, str]]:
        result = ingest_case(layout, reading_of(case, reading), case, plane)
        log.debug("%s", case.case, extra={"done": next(done), "of": len(files)})
        return result

    jobs = [dask.delayed(ingested)(case) for case in files]
    results = dask.compute(*jobs, scheduler="threads", num_workers=threads)
    digests = {path: digest for _, of_case in results for path, digest in of_case.items()}
    return (
        {case.case: result[0] for case, result in zip(files, results, strict=True)},
        stats,
        digests,
    )


def _tell_counts(files: Sequence[CaseFiles]) -> None:
    external = sum(bool(external_set(case.role)) for case in files)
    own = [case for case in files if not external_set(case.role)]
    labelled = sum(case.label is not None for case in own)
    healthy = sum(case.role == HEALTHY for case in own)
    unlabelled = len(own) - labelled - healthy
    told = f", {external} of external data sets" if external else ""
    counts = (labelled, unlabelled, healthy, told)
    log.info("%d cases with reference, %d without, %d healthy%s", *counts)


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
