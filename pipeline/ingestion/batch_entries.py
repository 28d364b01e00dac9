"""What the job of all cases takes over from the jobs of batches that ran before it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.datasets import CaseFiles
from pipeline.datasets.cases import source_files
from pipeline.settings import Source
from pipeline.storage.batches import batch_names, batches_in
from pipeline.storage.files import fingerprint, remembered
from pipeline.storage.folders import record_of
from pipeline.storage.layout import Layout, stage_version
from pipeline.storage.source_notes import unchanged_files

VERSION = stage_version("ingest")
# keys of a source that tell nothing of how one of its cases is read
NOT_OF_A_CASE = {"root", "phantom", "also_predict", "healthy", "on_error"}


def planned_manifests(layout: Layout, cases: int, cases_per_job: int | None) -> list[Path]:
    """The manifests of as many batches as a plan divides the listed cases into; of one, none."""
    names = batch_names(cases, cases_per_job or cases)
    return [layout.ingest_batch(name) for name in names] if len(names) > 1 else []


def entries_of_batches(
    layout: Layout,
    manifests: Iterable[Path],
    files: Sequence[CaseFiles],
    reading: Mapping[str, Source],
    plane: str,
) -> dict[str, dict[str, Any]]:
    """Entries of the cases that batches have stored, or refused, as they are listed and lie now.

    `manifests` are those of the batches.
    """
    listed, entries = {case.case: case for case in files}, {}
    for manifest in manifests:
        content = remembered(manifest) or {}
        parts = [content.get(part) for part in ("listed", "set_aside", "cases")]
        # what somebody has edited tells of no case, and the case is read anew
        listed_as, aside, kept = (part if isinstance(part, dict) else {} for part in parts)
        unchanged = unchanged_files(layout.sources(layout.work_of(manifest)))
        for name, key in listed_as.items():
            case = listed.get(name)
            if case is None or key != listed_as_key(case, reading, plane):
                continue
            if not all(str(path) in unchanged for path in all_files([case])):
                continue
            if name in aside:
                entries[name] = {"faults": aside[name]}
            elif name in kept and layout.case_store(name).exists():
                entries[name] = kept[name]
    return entries


def forget_refused(manifests: Iterable[Path]) -> None:
    """Delete the manifests of batches that have refused a case, so that the next call reads it.

    What was wrong need not be in its files: memory, a library or a right to read may be given.
    """
    for manifest in manifests:
        if (remembered(manifest) or {}).get("set_aside"):
            manifest.unlink()


def drop_other_batches(layout: Layout, manifests: Collection[Path]) -> None:
    """Delete what batches of another number have left, for which no plan asks any longer.

    It would be compared with its stores and files in every plan, and no job would make it true.
    """
    for manifest in set(batches_in(layout.stage("ingest"))) - set(manifests):
        note = layout.sources(layout.work_of(manifest))
        for path in (manifest, record_of(manifest), note):
            path.unlink(missing_ok=True)


def listed_as_key(case: CaseFiles, reading: Mapping[str, Source], plane: str) -> str:
    """A fingerprint of how a case is listed and read, wherever it lies."""
    source = reading_of(case, reading).model_dump(mode="json", exclude=NOT_OF_A_CASE)
    listed = [case.label is not None, case.group, case.role, case.modality, case.notes]
    return fingerprint({"source": source, "plane": plane, "listed": listed, "version": VERSION})


def reading_of(case: CaseFiles, reading: Mapping[str, Source]) -> Source:
    """How a case is read, by its role; "" has what holds for all others."""
    return reading.get(case.role, reading[""])


def all_files(cases: Iterable[CaseFiles]) -> Iterator[Path]:
    """The files of all cases; none of a case that cannot be looked at."""
    for files in cases:
        with suppress(OSError):  # reading the case reports it
            yield from (Path(os.path.normpath(path)) for path in source_files(files))
