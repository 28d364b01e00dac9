"""Batches of cases: one job each of a stage that works case by case, where a data set has many.

A batch is called `2of4`. Its manifest lies in the folder of the manifest that one job for all cases
would write: `…/subset-1/batch-2of4.json` in place of `…/subset-1.json`. There is one or the other.
What one job has made for all cases goes on as one, until as many cases have come as a job may have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of, record_of
from pipeline.storage.layout import Layout

Parts = Callable[[Path], Sequence[Path]]
"""What is written in place of the manifest of all cases, as it is or as it is planned."""
BATCH_NAME = re.compile(r"[1-9][0-9]{0,9}of[1-9][0-9]{0,9}")
ALL = ""  # in place of a batch's name: all cases, in one job
ONE_BATCH = "1of1"  # of a stage whose manifests are those of batches in any case
MOST_DOUBLINGS = 30  # of the number of batches


@dataclass(frozen=True)
class Batches:
    """Names of the batches of a data set's stages; one where one job does all."""

    ingest: list[str]
    residual_maps: list[str]
    predict: list[str]  # also of postprocess and evaluate
    grown: bool  # whether more cases have come than one job may have

    def parts(self, manifest: Path, batch: str = ALL) -> list[Path]:
        """The manifests of predictions, masks or rows that are made in place of one for all cases.

        Of a `batch`, those that have cases in common with it.
        """
        goes_on = manifest.exists() and not is_divided(manifest) and not self.grown
        if len(self.predict) == 1 or goes_on:
            return [manifest]
        chosen = overlapping(batch, self.predict)
        return [folder_of(manifest) / f"batch-{name}.json" for name in chosen]

    def ingested(self, layout: Layout, batch: str = ALL) -> list[Path]:
        """The manifests of batches that ingest has; none where one job stores all cases.

        Of a `batch`, those that have cases in common with it.
        """
        folder = layout.stage("ingest")
        goes_on = layout.cases.exists() and not batches_in(folder) and not self.grown
        divided = len(self.ingest) > 1 and not goes_on
        names = overlapping(batch, self.ingest) if divided else []
        return [layout.ingest_batch(name) for name in names]


def batch_names(cases: int, cases_per_job: int) -> list[str]:
    """Names of the batches: a power of two, so a case stays in one while others come and go."""
    batches = 1
    while batches * cases_per_job < cases:
        batches *= 2
    return [f"{index + 1}of{batches}" for index in range(batches)]


def is_batch(name: str) -> bool:
    """Whether a batch can be called so: one of 1, 2, 4, 8 …, counted from 1."""
    if not BATCH_NAME.fullmatch(name):
        return False
    index, batches = map(int, name.split("of"))
    return index <= batches < 2**MOST_DOUBLINGS and batches.bit_count() == 1


def batch_of(case: str, batches: int) -> str:
    """The batch of a case: a stable function of its name."""
    index = int.from_bytes(hashlib.sha256(case.encode()).digest()[-4:], "big") % batches
    return f"{index + 1}of{batches}"


def batches_with(case: str) -> list[str]:
    """The batch of a case for every number of batches that there can be.

    So manifests are asked for by name, as their folder may hold thousands of files.
    """
    return [batch_of(case, 2**doublings) for doublings in range(MOST_DOUBLINGS)]


def in_batch(case: str, batch: str) -> bool:
    """Whether `case` belongs to the batch called `batch`, such as `2of4`; all belong to `ALL`."""
    return batch == ALL or batch_of(case, batch_count(batch)) == batch


def batch_count(batch: str) -> int:
    """The number of batches of which this is one."""
    return int(batch.partition("of")[2]) if batch else 1


def overlapping(batch: str, others: Sequence[str]) -> Sequence[str]:
    """Those of all batches of one number, in their order, that can share a case with a batch."""
    return others[_index(batch) % len(others) :: min(batch_count(batch), len(others))]


def may_share(batch: str, other: str) -> bool:
    """Whether two batches, also of different numbers, can have a case in common."""
    shared = min(batch_count(batch), batch_count(other))
    return _index(batch) % shared == _index(other) % shared


def _index(batch: str) -> int:
    return int(batch.partition("of")[0]) - 1 if batch else 0


def batch_part(whole: str | int, batch: str = ALL) -> str:
    """What a layout's path is asked for in place of `whole`: `1` → `1/batch-2of4`."""
    return f"{whole}/batch-{batch}" if batch else str(whole)


def batches_in(folder: Path, batch: str = ALL) -> list[Path]:
    """The manifests of batches in a folder.

    Of a `batch`, only those that can have cases in common with it.
    """
    paths = [path for path in folder.glob("batch-*.json") if BATCH_NAME.fullmatch(_name(path))]
    return sorted(path for path in paths if may_share(batch, _name(path)))


def parts_of(manifest: Path, batch: str = ALL) -> list[Path]:
    """The manifest of all cases, or those of the batches that took its place; those that exist.

    Of a `batch`, only those that can have cases in common with it.
    """
    return [manifest] if manifest.exists() else batches_in(folder_of(manifest), batch)


def is_divided(manifest: Path) -> bool:
    """Whether batches of a manifest are there."""
    return bool(batches_in(folder_of(manifest)))


def read_parts(manifest: Path) -> dict[str, Any]:
    """What a manifest, or all those of its batches together, say of each case in `cases`.

    Raises:
        PipelineError: there is none, or one is damaged.
    """
    parts = parts_of(manifest) or [manifest]
    return {case: said for part in parts for case, said in read_json(part)["cases"].items()}


def part_with(manifest: Path, case: str) -> Path:
    """The one of `parts_of` a manifest that would list a case; the manifest itself if none does."""
    if manifest.exists():
        return manifest
    paths = (folder_of(manifest) / f"batch-{batch}.json" for batch in batches_with(case))
    return next((path for path in paths if path.exists()), manifest)


def drop_other_parts(manifest: Path, batch: str) -> None:
    """Delete the manifests that divide these cases otherwise than the job of `batch` does.

    They list the same results, which stay.
    """
    others = [path for path in batches_in(folder_of(manifest)) if not _alike(path, batch)]
    for path in [*others, *([manifest] if batch else [])]:
        path.unlink(missing_ok=True)
        record_of(path).unlink(missing_ok=True)


def _alike(path: Path, batch: str) -> bool:
    return bool(batch) and batch_count(_name(path)) == batch_count(batch)


def _name(manifest: Path) -> str:
    return manifest.stem.removeprefix("batch-")
