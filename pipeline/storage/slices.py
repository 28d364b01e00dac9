"""Slices of stored cases as tensors, the input of every training and prediction."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from grcsf.intensity import scale_window
from grcsf.neighbours import reach, with_neighbours
from grcsf.resampling import resize
from grcsf.transfer import send
from pipeline.errors import PipelineError
from pipeline.settings import Slices
from pipeline.storage import zarr_store
from pipeline.storage.intensity import intensity_range


def network_slices(
    image: npt.NDArray[Any], limits: tuple[float, float], size: tuple[int, int]
) -> torch.Tensor:
    """Source slices `(z, y, x)` → `(z, 1, h, w)` float32 in [0, 1]."""
    return resize(torch.from_numpy(scale_window(image, *limits)).unsqueeze(1), size)


def network_residuals(
    maps: npt.NDArray[Any], size: tuple[int, int], case: str, store: object, first: int
) -> torch.Tensor:
    """Stored residual maps `(R, z, y, x)` → `(z, R, h, w)` float32; `first` is their first slice.

    Raises:
        PipelineError: a slice is missing in their store.
    """
    residuals = torch.from_numpy(maps).float().swapaxes(0, 1).contiguous()
    holes = torch.isnan(residuals).flatten(1).any(dim=1).nonzero()
    if len(holes):
        fault = f"residual store {store} has a hole at slice {first + int(holes[0])}"
        raise PipelineError(f"case {case}: {fault}; delete it and run again")
    return resize(residuals, size)


def slices_in_context(
    read: Callable[[slice], npt.NDArray[Any]],
    planes: slice,
    depth: int,
    context: int,
    limits: tuple[float, float],
    size: tuple[int, int],
    beyond: float = 0.0,
) -> torch.Tensor:
    """Slices of a volume with `context` neighbours on each side, `(z, 1 + 2 · context, h, w)`.

    `read` gives the volume's slices `(z, y, x)` by a range of them; `depth` is how many it has;
    those that it lacks hold `beyond`.
    """
    needed = reach(planes.start, planes.stop, depth, context)
    shown = network_slices(read(needed.part), limits, size)
    return with_neighbours(shown, context, needed.before, needed.after, beyond)


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of several cases, which stay in memory as far as `share_cache` gives room.

    An item holds `image` (1 + 2 · `context`, h, w) in [0, 1], the slice between its neighbours as
    `grcsf.neighbours` has them with `beyond`, of a labelled case `label` (1, h, w) {0, 1}, unless
    `labels` is false, and with residual stores `residuals` (R, h, w) in [0, 1], or [−1, 1] if
    signed; all are float32.
    """

    def __init__(
        self,
        slices: Sequence[tuple[str, int]],
        case_stores: Mapping[str, Path],
        settings: Slices,
        residual_stores: Mapping[str, Path] | None = None,
        *,
        labels: bool = True,
        context: int = 0,
        beyond: float = 0.0,
    ) -> None:
        self.slices = list(slices)
        self._case_stores = case_stores
        self._residual_stores = residual_stores
        self._labels = labels
        self._context, self._beyond = context, beyond
        self._settings = settings
        self._open: dict[Path, zarr_store.Store] = {}
        self._arrays: dict[tuple[Path, str], zarr_store.StoredArray] = {}
        self._opened_by = os.getpid()
        self._limits: dict[str, tuple[float, float]] = {}
        self._cache_bytes = 0
        self._device = torch.device("cpu")
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        read = self._read(*self.slices[index])
        item = {name: send(tensor, self._device) for name, tensor in read.items()}
        size = sum(tensor.nbytes for tensor in item.values())
        if size <= self._cache_bytes:
            self._cache_bytes -= size
            self._kept[index] = item
        return item

    def keep(self, size: int, device: str = "cpu") -> None:
        """Keep up to `size` bytes of items on a device, in each process that reads.

        All items come from there, also those that there is no room for.
        """
        self._cache_bytes, self._device = size, torch.device(device)

    def _read(self, case: str, z: int) -> dict[str, Any]:
        path = self._case_stores[case]
        store = self._store(path)
        if case not in self._limits:
            self._limits[case] = intensity_range(store.attrs, self._settings)
        plane, size = slice(z, z + 1), self._settings.size
        depth: Any = store.attrs["slices"] if self._context else z + 1
        read = partial(self._read_part, path, "image")
        limits, context = self._limits[case], self._context
        shown = slices_in_context(read, plane, depth, context, limits, size, self._beyond)
        item = {"image": shown[0]}
        if self._labels and "label" in store:
            # averaging and a threshold of one half keep a lesion's area when a slice shrinks
            label = torch.from_numpy(self._read_part(path, "label", plane) > 0).float().unsqueeze(1)
            item["label"] = (resize(label, size)[0] >= 0.5).float()
        if self._residual_stores is not None:
            path = self._residual_stores[case]
            maps = self._read_part(path, "residual", (slice(None), plane))
            item["residuals"] = network_residuals(maps, size, case, path, z)[0]
        return item

    def __getstate__(self) -> dict[str, Any]:
        # a worker opens its own stores, because no handle may be pickled
        return {**self.__dict__, "_open": {}, "_arrays": {}, "_kept": {}}

    def _store(self, path: Path) -> zarr_store.Store:
        if self._opened_by != os.getpid():
            # nor may a fork inherit handles, because it does not copy the threads that serve them
            self._open, self._arrays, self._opened_by = {}, {}, os.getpid()
        if path not in self._open:
            self._open[path] = zarr_store.open_store(path)
        return self._open[path]

    def _read_part(self, path: Path, name: str, index: Any) -> npt.NDArray[Any]:
        store = self._store(path)
        if (path, name) not in self._arrays:
            self._arrays[path, name] = zarr_store.stored_array(store, name)
        return zarr_store.read_part(self._arrays[path, name], index)


def mean_and_deviation(data: SliceDataset) -> tuple[float, float]:
    """Mean and standard deviation of all pixels of a data set without neighbours, in [0, 1]."""
    count, total, squares = 0, 0.0, 0.0
    for index in range(len(data)):
        pixels = data[index]["image"].double()
        count += pixels.numel()
        total += float(pixels.sum())
        squares += float(pixels.square().sum())
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2))


class LargeBatches(BatchSampler):
    """Batches of slices in an order; a last one of fewer than `least` is left out."""

    def __init__(self, order: Sampler[int], batch_size: int, least: int) -> None:
        super().__init__(order, batch_size, drop_last=False)
        self._least = least

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full + (rest >= self._least)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch for batch in super().__iter__() if len(batch) >= self._least)


def slice_loader(
    data: SliceDataset, batch_size: int, order: Sampler[int] | None, workers: int, least: int = 1
) -> DataLoader[Any]:
    """Batches of a data set, read by `workers` processes, or by this process if 0.

    Batches of an `order` with fewer than `least` slices are left out.
    """
    batches: dict[str, Any] = {"batch_size": batch_size, "sampler": order}
    if order is not None and least > 1:
        batches = {"batch_sampler": LargeBatches(order, batch_size, least)}
    return DataLoader(
        data,
        **batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=zarr_store.worker_start() if workers else None,
    )


def share_cache(
    loaders: Sequence[DataLoader[Any]], cache_mb: int, readers: int, device: str
) -> None:
    """Divide `cache_mb` of a device among a training's loaders, by their sizes, and its readers."""
    parts = [loader.dataset for loader in loaders if isinstance(loader.dataset, SliceDataset)]
    slices = max(1, sum(map(len, parts)))
    for part in parts:
        part.keep(cache_mb * 1_000_000 * len(part) // slices // readers, device)


class SliceSampler(Sampler[int]):
    """All slices with lesion and a fraction of those without, in an order of seed and epoch alone.

    A resumed training so continues with the same slices; processes that train together divide it.
    """

    def __init__(
        self, lesion: Sequence[int], lesion_free: Sequence[int], fraction: float, seed: int
    ) -> None:
        self._lesion = np.asarray(lesion, dtype=np.int64)
        self._lesion_free = np.asarray(lesion_free, dtype=np.int64)
        self._count = round(fraction * len(self._lesion_free))
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        _, processes = _share()
        return -(-(len(self._lesion) + self._count) // processes)

    def __iter__(self) -> Iterator[int]:
        order = self._drawn(np.random.default_rng([self._seed, self.epoch]))
        rank, processes = _share()
        # the first slices fill up the last round, so that every process takes equally many
        order += order[: -len(order) % processes]
        return iter(order[rank::processes])

    def _drawn(self, generator: np.random.Generator) -> list[int]:
        chosen = generator.permutation(self._lesion_free)[: self._count]
        drawn: list[int] = generator.permutation(np.concatenate([self._lesion, chosen])).tolist()
        return drawn


class CaseSampler(SliceSampler):
    """One slice of every case: with a probability of `share` one of those with lesion, if any.

    `cases` has the slices with lesion and those without of each case.
    """

    def __init__(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], share: float, seed: int
    ) -> None:
        super().__init__(range(len(cases)), (), 1.0, seed)
        self._cases, self._of_lesion = cases, share

    def _drawn(self, generator: np.random.Generator) -> list[int]:
        drawn = []
        for number in super()._drawn(generator):
            lesion, lesion_free = self._cases[number]
            wanted = lesion if generator.random() < self._of_lesion else lesion_free
            drawn.append(int(generator.choice(wanted or lesion or lesion_free)))
        return drawn


def _share() -> tuple[int, int]:
    """This process's rank and the number of processes that train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
