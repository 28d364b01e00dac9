"""The stores of a data set, for `grcsf store ls` and `verify`: what they hold, and their faults."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, configured
from pipeline.settings.instances import all_residuals
from pipeline.storage.files import json_entries, read_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import open_store, verify_store

log = logging.getLogger(__name__)
UNTOUCHABLE = "untouchable"
MAIN_ARRAY = {"ingest": "image", "residual_maps": "residual", "predict": "probability"}


@dataclass(frozen=True)
class KeptStore:
    """One store of a data set.

    A linked one is complete, in the shared folder. An untouchable one may be sound, but cannot be
    read: closed to this user, or of newer software.
    """

    path: Path  # its folder, or the link to it
    stage: str
    of: str  # residual set, or experiment and subset; "" for case stores
    case: str
    size: int  # bytes on disk
    state: str  # complete, linked, unusable or untouchable
    shape: tuple[int, ...] = ()  # of its image, residuals or probabilities
    raw_bytes: int = 0  # of all its arrays, uncompressed
    fingerprint: str = ""  # of everything that it was made from
    fault: str = ""  # why it is unusable, or ""

    @property
    def group(self) -> str:
        """Stage and set: the folder of its stores below `results/<dataset>`."""
        return f"{self.stage}/{self.of}" if self.of else self.stage

    @property
    def ratio(self) -> float | None:
        """Bytes of its arrays over bytes on disk."""
        return self.raw_bytes / self.size if self.raw_bytes and self.size else None


def list_stores(layout: Layout) -> Iterator[KeptStore]:
    """Every store of a data set, in the order of the stages; each is looked at when it is asked."""
    for stage, path in layout.existing("store"):
        yield _kept(path, stage, layout.set_of(stage, path))


def _kept(path: Path, stage: str, of: str) -> KeptStore:
    known: dict[str, Any] = {"path": path, "stage": stage, "of": of}
    known |= {"case": path.stem, "size": folder_bytes(path)}
    try:
        store = open_store(path)
        arrays = dict(store.arrays())
        attributes = store.attrs.asdict()
    except UntouchableError as error:
        return KeptStore(**known, state=UNTOUCHABLE, fault=str(error))
    except (PipelineError, FileNotFoundError) as error:  # deleted since it was opened
        return KeptStore(**known, state="unusable", fault=str(error))
    main = arrays.get(MAIN_ARRAY[stage])
    return KeptStore(
        **known,
        state="linked" if path.is_symlink() else "complete",
        shape=main.shape if main is not None else (),
        raw_bytes=sum(array.nbytes for array in arrays.values()),
        fingerprint=str(attributes.get("fingerprint", "")),
    )


def folder_bytes(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    folders = os.walk(os.path.realpath(path)) if path.is_dir() else [("", [], [str(path)])]
    total = 0
    for folder, _, names in folders:
        for name in names:
            with suppress(OSError):  # gone, or a link to nothing
                total += Path(folder, name).stat().st_size
    return total


def store_faults(layout: Layout, dataset: Dataset) -> Iterator[tuple[Path, str]]:
    """Read every chunk of every store; yield each store with its fault, or "".

    Damaged manifests come first. A store is sound if it is whole, its values are finite and match
    their digests, and its shape and fingerprint are those that its manifest lists. One that is
    listed and not there is at fault only if the configuration makes it.
    """
    listed: set[int] = set()  # hashes, as there may be very many: of paths, with fingerprints
    for manifest, path, key in _listings(layout):
        if path is None:
            yield manifest, key
        listed |= {hash(str(path)), hash((str(path), key))}
    cases = _expected(layout)
    total = 1 + sum(1 for _ in layout.existing("store"))
    for done, kept in enumerate(list_stores(layout)):
        log.debug("%s", kept.path, extra={"done": done, "of": total})
        try:
            verify_store(kept.path)
        except PipelineError as error:
            if os.path.lexists(kept.path):  # otherwise it was deleted a moment ago
                yield kept.path, str(error)
            continue
        name = str(kept.path)
        current = hash(name) not in listed or hash((name, kept.fingerprint)) in listed
        fault = "" if current else "is not the one that its manifest lists"
        fault = fault or _shape_fault(kept, dataset, cases.get(kept.case))
        yield kept.path, fault and f"store {kept.path}: {fault}; delete it and run again"
    log.debug("all read", extra={"done": total, "of": total})
    gone = {path for _, path, _ in _listings(layout) if path and not os.path.lexists(path)}
    for path in sorted(gone):
        if _is_made(layout, dataset, path):
            yield path, f"store {path}: listed in its manifest and not there; run again"


def _expected(layout: Layout) -> dict[str, tuple[tuple[int, ...], int]]:
    """The shape of each case's image, and the hash of its digest."""
    if not layout.cases.exists():
        return {}
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # each held once
    facts = {}
    for case, entry in json_entries(layout.cases, "cases"):
        shape = tuple(entry["shape"])
        facts[case] = (shapes.setdefault(shape, shape), hash(entry["sha256_image"]))
    return facts


def _is_made(layout: Layout, dataset: Dataset, path: Path) -> bool:
    """Whether the configuration makes a store; of what it has no longer, manifests stay."""
    if path.is_relative_to(layout.stage("residual_maps")):
        return layout.set_of("residual_maps", path) in all_residuals(dataset)
    if path.is_relative_to(layout.stage("predict")):
        experiment, _, subset = layout.set_of("predict", path).partition("/subset-")
        name = configured(experiment)
        known = name in dataset.experiments and experiment in dataset.trainings_of(name)
        return known and subset in map(str, dataset.subsets_of(name))
    return True


def _listings(layout: Layout) -> Iterator[tuple[Path, Path | None, str]]:
    """Every manifest, store and fingerprint that is listed; of a damaged one None and its fault.

    A store may have several: batches of another number leave their manifests behind.
    """
    for stage, manifest in layout.existing("manifest"):
        if stage not in MAIN_ARRAY:
            continue
        try:
            if manifest == layout.cases:
                for case, entry in json_entries(manifest, "cases"):
                    yield manifest, layout.case_store(case), entry["fingerprint"]
                continue
            content = read_json(manifest)
            for output in content.get("outputs", ()):
                entry = content["cases"][Path(output).stem]
                key = entry["fingerprint"] if isinstance(entry, dict) else entry
                yield manifest, manifest.parent / output, key
        except PipelineError as error:
            yield manifest, None, str(error)
        except (LookupError, TypeError):
            line = f"{manifest}: damaged (it lists no fingerprints); delete it and run its stage"
            yield manifest, None, line


def _shape_fault(
    kept: KeptStore, dataset: Dataset, case: tuple[tuple[int, ...], int] | None
) -> str:
    if case is None:
        return ""
    expected, image = case
    if kept.stage == "residual_maps":
        if configured(kept.of) not in dataset.residuals:
            return ""
        maps = len(dataset.residuals[configured(kept.of)].titles)
        expected = (maps, expected[0], *dataset.slices.size)
        if hash(open_store(kept.path).attrs.get("image")) != image:
            return "was made from another image"
    return "" if kept.shape == expected else f"found shape {kept.shape}, expected {expected}"
