"""Residual maps that a call gives back: deleted once no job of its plan reads them.

A job that makes a batch's maps declares a small file that stands for them (`maps_there`), and every
job that reads them waits for it. It is temporary for Snakemake, which deletes it when the last of
these jobs has ended, makes it again for one that comes later, and misses it for none that has no
need of it. Whoever calls follows suit with the stores. What is there says nothing about what a
later plan needs, so no such file outlives its call.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage.batches import batch_count, batch_of
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import deeper
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import GIVEN_BACK, give_back, maps_there

SHARE = 20  # of a call's time at most one part in so many goes into looking for what is done


@dataclass(frozen=True)
class Batch:
    """The job of a plan that makes a batch's maps."""

    layout: Layout
    name: str  # of the residual set
    batch: str
    due: bool  # whether it has to run
    read: bool  # whether another job of the plan reads the maps, due or not

    @property
    def there(self) -> Path:
        """The file that stands for the maps."""
        return maps_there(self.layout, self.name, self.batch)


def plan_note(layout: Layout) -> Path:
    """What a call notes for the jobs that make maps: the works that it runs."""
    return layout.locks / "due.json"


def note_plan(layout: Layout, works: Collection[str]) -> None:
    """Note the works that a call runs."""
    write_json(plan_note(layout), {"works": sorted(works)})


class GivenBack:
    """The maps of one call, under the locks of its data sets."""

    def __init__(self) -> None:
        self.begun = False
        self._unmade: set[Batch] = set()  # whose job has not ended
        self._made: set[Batch] = set()
        self._next_look = 0.0

    def begin(self, batches: Collection[Batch]) -> Iterator[str]:
        """Delete what no job of the plan reads; a line for each batch."""
        self.begun = True
        self._unmade = {batch for batch in batches if batch.due}
        for batch in self._unmade:
            batch.there.unlink(missing_ok=True)  # its job writes it anew
        yield from _unread(batch for batch in batches if not batch.due)

    def look(self) -> Iterator[str]:
        """Delete the maps whose last reader has ended, after a job has; a line for each batch."""
        began = time.monotonic()
        if began < self._next_look:
            return
        yield from self._done()
        self._next_look = time.monotonic() + SHARE * (time.monotonic() - began)

    def end(self, batches: Collection[Batch], *, failed: bool = False) -> Iterator[str]:
        """Delete what is read by now; what was asked for by name stays until the next call."""
        if not self.begun:  # nothing was due
            yield from self.begin(batches)
        yield from self._done()
        for batch in self._made:
            batch.there.unlink(missing_ok=True)
            if batch.read and not failed:  # Snakemake was told to keep the file
                yield from _all_of(batch)
        self._made.clear()

    def _done(self) -> Iterator[str]:
        made = {batch for batch in self._unmade if batch.there.exists()}
        self._unmade -= made
        self._made |= made
        for batch in [batch for batch in self._made if not batch.there.exists()]:
            self._made.discard(batch)
            yield from _all_of(batch)


def left(layout: Layout) -> list[Path]:
    """Manifests of batches whose maps a call that was killed has left half made or half read."""
    patterns = ("*/batch-*.stores", "*/fold-*/batch-*.stores")
    there = [path for each in patterns for path in layout.stage("residual_maps").glob(each)]
    return [path.with_suffix(".json") for path in there]


def _all_of(batch: Batch) -> Iterator[str]:
    manifest = batch.layout.residual_batch(batch.name, batch.batch)
    if manifest.exists():
        cases = read_json(manifest)["cases"]
        yield from _delete(batch, [batch.layout.residual_store(batch.name, case) for case in cases])


def _unread(batches: Iterator[Batch]) -> Iterator[str]:
    """Delete the stores that are there of these batches, by one look into each folder."""
    sets: dict[tuple[Layout, str], dict[str, Batch]] = defaultdict(dict)
    for batch in batches:
        sets[batch.layout, batch.name][batch.batch] = batch
    for (layout, name), of_set in sets.items():
        found: dict[Batch, list[Path]] = defaultdict(list)
        number = batch_count(next(iter(of_set)))
        folder = layout.stage("residual_maps") / name
        for pattern in ("[!.]*.zarr", deeper("[!.]*.zarr")):
            for store in folder.glob(pattern):
                if own := of_set.get(batch_of(store.stem, number)):
                    found[own].append(store)
        for each, stores in found.items():
            manifest = layout.residual_batch(name, each.batch)
            if manifest.exists() and read_json(manifest).get(GIVEN_BACK):
                yield from _delete(each, stores)


def _delete(batch: Batch, stores: Collection[Path]) -> Iterator[str]:
    if count := give_back(stores):
        told = f"{batch.layout.dataset}: given back, as no job of the plan reads them any more"
        counted = "1 store" if count == 1 else f"{count} stores"
        yield f"{told}: {counted} of residual_maps {batch.name} {batch.batch}"
