"""Prepares cases for reconstruction, and hands on their slices one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from toolz import partition_all

from grcsf.mae.build import MaskedModel
from grcsf.mae.masking import coverage, slice_masks, tissue_masks
from grcsf.residuals import tissue_patches
from pipeline.errors import PipelineError
from pipeline.settings import MaskScheme, ResidualMap, Residuals, Slices
from pipeline.storage.intensity import image_key, intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import array_digest, open_store, read_array

# Slices resized together: one at a time takes eight times as long, all at once take memory.
PREPARED = 32


@dataclass
class CaseInProgress:
    """A case whose slices are being reconstructed."""

    name: str
    fingerprint: str  # of its residuals
    residual: npt.NDArray[np.float16]  # (map, z, h, w); empty slices stay 0
    image_digest: str  # SHA-256
    remaining: int  # slices that are not empty and have no residuals yet
    coverages: list[tuple[int, float]]  # one per map; none if every slice is empty
    seconds: float  # time of reading, and the share of its slices in the time of batches


class PassMasks(NamedTuple):
    """The patches that the passes of a slice hide for one map, and those whose residual counts."""

    masks: torch.Tensor  # (K, L) bool, 1 = masked
    counted: torch.Tensor  # (L,) bool


@dataclass(frozen=True)
class SliceTask:
    """A slice to reconstruct: its case, its number, its pixels (1, h, w) and its masks per map."""

    case: CaseInProgress
    z: int
    image: torch.Tensor
    passes: list[PassMasks]


def prepare_case(
    layout: Layout,
    name: str,
    ingested: Mapping[str, Any],
    fingerprint: str,
    settings: Residuals,
    models: Sequence[MaskedModel],
    slices: Slices,
    seed: int,
) -> tuple[CaseInProgress, list[SliceTask]]:
    """A case, and its slices to reconstruct; empty (constant) slices need no pass.

    `ingested` is its entry in the manifest of ingest; `models` has one for each map.

    Raises:
        PipelineError: the store is damaged, or its image is not that of `ingested`.
    """
    started = time.monotonic()
    image, limits = _read_image(layout, name, ingested, slices)
    shown = [z for z, plane in enumerate(image) if plane.min() != plane.max()]
    planes = [
        plane  # (1, h, w)
        for part in partition_all(PREPARED, shown)
        for plane in network_slices(image[list(part)], limits, slices.size)
    ]
    passes = [
        [
            pass_masks(name, z, plane, chosen, settings.masks, model, seed)
            for chosen, model in zip(settings.maps, models, strict=True)
        ]
        for z, plane in zip(shown, planes, strict=True)
    ]
    case = CaseInProgress(
        name=name,
        fingerprint=fingerprint,
        residual=np.zeros((len(settings.maps), len(image), *slices.size), np.float16),
        image_digest=str(ingested["sha256_image"]),
        remaining=len(shown),
        coverages=[
            coverage(torch.stack([masks for masks, _ in of_map]))
            for of_map in zip(*passes, strict=True)
        ],
        seconds=0.0,
    )
    tasks = [SliceTask(case, *parts) for parts in zip(shown, planes, passes, strict=True)]
    case.seconds = time.monotonic() - started
    return case, tasks


def _read_image(
    layout: Layout, name: str, ingested: Mapping[str, Any], slices: Slices
) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """A case's image (z, y, x), and the source values that become 0 and 1."""
    path = layout.case_store(name)
    store = open_store(path)
    image = read_array(store, "image")
    as_ingested = image_key(store.attrs, slices) == image_key(ingested, slices)
    if not as_ingested or array_digest(image) != ingested["sha256_image"]:
        fault = f"case {name}: {path} holds another image than {layout.cases} says"
        raise PipelineError(f"{fault}; delete it and run again")
    return image, intensity_range(store.attrs, slices)


def slice_tasks(
    prepared: Iterable[tuple[CaseInProgress, list[SliceTask]]],
    keep: Callable[[CaseInProgress], None],
) -> Iterator[SliceTask]:
    """The tasks of every case in turn; a case that has none goes to `keep` at once."""
    for case, tasks in prepared:
        if not tasks:
            keep(case)
        yield from tasks


def pass_masks(
    case: str,
    z: int,
    image: torch.Tensor,
    chosen: ResidualMap,
    scheme: MaskScheme,
    model: MaskedModel,
    seed: int,
) -> PassMasks:
    """The masks of a slice's passes for one map; `image` is (1, h, w), in [0, 1]."""
    if scheme == "tissue":
        counted = tissue_patches(model, image[None])[0]
        draw = partial(tissue_masks, counted.numpy())
    else:
        counted = torch.ones(model.num_patches, dtype=torch.bool)
        draw = partial(slice_masks, patches=model.num_patches, scheme=scheme)
    ratio, passes = chosen.mask_ratio, chosen.passes
    masks = draw(seed=seed, case=case, slice_index=z, mask_ratio=ratio, passes=passes)
    return PassMasks(torch.from_numpy(masks), counted)
