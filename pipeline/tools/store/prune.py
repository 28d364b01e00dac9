"""`grcsf store prune`: stores that no configuration needs, and files that killed jobs left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, configured, repeat_of
from pipeline.settings.instances import all_residuals, fold_of
from pipeline.storage.files import json_entries, remove
from pipeline.storage.folders import BY_DIGEST, matching
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import open_store, store_attributes
from pipeline.tools.store.inventory import UNTOUCHABLE, KeptStore, folder_bytes, list_stores

# a job writes a temporary store within a minute or two; one this old belongs to no running job
LEFT_AFTER_SECONDS = 3600


@dataclass(frozen=True)
class Needless:
    """Something that may be deleted, and why."""

    path: Path
    reason: str
    size: int
    faulty: bool = False  # when it was listed; a running job may make it again meanwhile


def delete(item: Needless) -> str:
    """Delete an item; return why it stays, or ""."""
    if item.faulty and store_attributes(item.path) is not None:
        return "it has been made again"
    try:
        remove(item.path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def needless(
    users: Mapping[Layout, Sequence[Dataset]], shared: Iterable[Path] = ()
) -> Iterator[Needless]:
    """Everything that may be deleted in the results of some data sets, as it is found.

    These are unusable stores, stores of sets, experiments and cases that none of a folder's `users`
    has any longer, and old temporary files. Sound stores of a `shared` folder stay.
    """
    for layout, datasets in users.items():
        yield from _of_results(layout, datasets)
    for root in shared:
        yield from _of_shared_folder(root)


def _of_results(layout: Layout, datasets: Sequence[Dataset]) -> Iterator[Needless]:
    cases = None
    if layout.cases.exists():
        cases = {case for case, _ in json_entries(layout.cases, "cases")}
    for kept in list_stores(layout):
        if kept.state == UNTOUCHABLE:
            continue
        reason = kept.fault or _reason(kept, datasets, cases)
        if reason:
            size = 0 if kept.path.is_symlink() else kept.size
            yield Needless(kept.path, reason, size, faulty=bool(kept.fault))
    yield from _leftovers(layout.root.glob(f"{layout.dataset}/**/.*"))


def _reason(kept: KeptStore, datasets: Sequence[Dataset], cases: set[str] | None) -> str:
    if cases is not None and kept.case not in cases:
        return f"{kept.case} is no case of the data set any longer"
    if kept.stage == "residual_maps" and not any(
        kept.of in all_residuals(dataset) for dataset in datasets
    ):
        if fold := fold_of(kept.of):
            return f"no configuration has residuals.{configured(kept.of)} of a fold {fold}"
        return f"no configuration has residuals.{kept.of}" + _for_folds(kept.of, datasets)
    if kept.stage == "predict":
        experiment, _, subset = kept.of.partition("/subset-")
        if not subset:  # somebody's own folder
            return ""
        name = configured(experiment)
        users = [dataset for dataset in datasets if name in dataset.experiments]
        if not users:
            return f"no configuration has experiments.{name}"
        users = [dataset for dataset in users if experiment in dataset.trainings_of(name)]
        if not users:
            return f"no configuration has repeat {repeat_of(experiment)} of experiments.{name}"
        if not any(subset in map(str, dataset.subsets_of(name)) for dataset in users):
            return f"no configuration has subset {subset} of experiments.{name}"
    return ""


def _for_folds(residuals: str, datasets: Sequence[Dataset]) -> str:
    named = any(residuals in dataset.residuals for dataset in datasets)
    return " for all subsets; each fold has its own" if named else ""


def _of_shared_folder(root: Path) -> Iterator[Needless]:
    for path in chain(matching(root, "*/*.zarr"), matching(root, f"{BY_DIGEST}/*/*.zarr")):
        # stores that this user may not delete belong to somebody else
        if path.name.startswith(".") or not os.access(path.parent, os.W_OK):
            continue
        try:
            open_store(path)
        except UntouchableError:
            continue
        except PipelineError as error:
            if not os.path.lexists(path):  # replaced by a running job, a moment ago
                continue
            yield Needless(path, str(error), folder_bytes(path), faulty=True)
    hidden = chain(root.glob("*/.*"), root.glob(f"{BY_DIGEST}/*/.*"))
    yield from _leftovers(path for path in hidden if os.access(path.parent, os.W_OK))


def _leftovers(hidden: Iterable[Path]) -> Iterator[Needless]:
    for path in sorted(hidden):
        if path.suffix not in (".tmp", ".old"):
            continue
        try:
            changed = _last_change(path)
        except FileNotFoundError:  # a running job has put it in its place
            continue
        if changed < time.time() - LEFT_AFTER_SECONDS:
            yield Needless(path, "left by a killed job, or set aside", folder_bytes(path))


def _last_change(path: Path) -> float:
    parts = chain([path], path.rglob("*") if path.is_dir() else ())
    return max(part.lstat().st_mtime for part in parts)
