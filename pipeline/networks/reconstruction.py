"""Cases whose slices are being reconstructed: read and prepared ahead, slice by slice handed on."""

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

PREPARED = 32  # slices resized at once: one by one takes eight times as long, all take memory


@dataclass
class CaseInProgress:
    """A case whose slices are being reconstructed."""

    name: str
    fingerprint: str
    residual: npt.NDArray[np.float16]  # (ratio, z, h, w); empty slices stay 0
    image_digest: str
    remaining: int  # slices that are not empty and wait for their residuals
    coverages: list[tuple[int, float]]  # per ratio; none where every slice is empty
    seconds: float  # reading, and its slices' share of their batches


class PassMasks(NamedTuple):
    """What the passes of a slice hide for one map, and where their residual counts."""

    masks: torch.Tensor  # (K, L) bool, 1 = masked
    counted: torch.Tensor  # (L,) bool


@dataclass(frozen=True)
class SliceTask:
    """One slice to reconstruct: its case and number, pixels (1, h, w), and its passes per ratio."""

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
    """A case with its slices to reconstruct: no pass is due for an empty (constant) one.

    Args:
        layout: where the case stores lie.
        name: of the case.
        ingested: what the manifest says of it.
        fingerprint: of its residuals.
        settings: the residual set.
        models: for each of the set's maps.
        slices: how slices are scaled and resized.
        seed: of the masks.

    Raises:
        PipelineError: the store is damaged, or holds another image than the manifest says, from
            which the fingerprint comes.
    """
    started = time.monotonic()
    path = layout.case_store(name)
    store = open_store(path)
    image = read_array(store, "image")
    if image_key(store.attrs, slices) != image_key(ingested, slices) or (
        array_digest(image) != ingested["sha256_image"]
    ):
        raise PipelineError(
            f"case {name}: {path} holds another image than {layout.cases} says; delete it and run "
            "again"
        )
    shown = [z for z, plane in enumerate(image) if plane.min() != plane.max()]
    limits = intensity_range(store.attrs, slices)
    planes = [
        plane  # (1, h, w)
        for some in partition_all(PREPARED, shown)
        for plane in network_slices(image[list(some)], limits, slices.size)
    ]
    passes = [
        [
            pass_masks(name, z, plane, one, settings.masks, model, seed)
            for one, model in zip(settings.maps, models, strict=True)
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
            coverage(torch.stack([one.masks for one in ratio]))
            for ratio in zip(*passes, strict=True)
        ],
        seconds=0.0,
    )
    work = [SliceTask(case, *one) for one in zip(shown, planes, passes, strict=True)]
    case.seconds = time.monotonic() - started
    return case, work


def slice_tasks(
    opened: Iterable[tuple[CaseInProgress, list[SliceTask]]], keep: Callable[[CaseInProgress], None]
) -> Iterator[SliceTask]:
    """The slices of every case in turn; a case without any is kept as it is."""
    for case, work in opened:
        if not work:
            keep(case)
        yield from work


def pass_masks(
    case: str,
    z: int,
    image: torch.Tensor,
    one: ResidualMap,
    scheme: MaskScheme,
    model: MaskedModel,
    seed: int,
) -> PassMasks:
    """The masks of one slice's passes for one map; `image` is (1, h, w), in [0, 1]."""
    if scheme == "tissue":
        counted = tissue_patches(model, image[None])[0]
        draw = partial(tissue_masks, counted.numpy())
    else:
        counted = torch.ones(model.num_patches, dtype=torch.bool)
        draw = partial(slice_masks, patches=model.num_patches, scheme=scheme)
    masks = draw(seed=seed, case=case, slice_index=z, mask_ratio=one.mask_ratio, passes=one.passes)
    return PassMasks(torch.from_numpy(masks), counted)
