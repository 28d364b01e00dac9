"""Cases whose slices are being reconstructed: read and prepared ahead, slice by slice handed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from grcsf.mae.masking import slice_masks
from grcsf.residuals import coverage
from pipeline.intensity import intensity_range
from pipeline.layout import Layout
from pipeline.settings import ResidualMap, Residuals, Slices
from pipeline.slices import network_slices
from pipeline.stores import open_store, read_array


@dataclass
class OpenCase:
    """A case whose slices are being reconstructed."""

    name: str
    fingerprint: str
    residual: npt.NDArray[np.float16]  # (ratio, z, h, w); empty slices stay 0
    image_digest: str
    remaining: int  # slices that are not empty and wait for their residuals
    coverages: list[tuple[int, float]]  # per ratio; none where every slice is empty
    seconds: float  # reading, and its slices' share of their batches


@dataclass(frozen=True)
class Work:
    """One slice to reconstruct: its case, number, pixels (1, h, w) and masks (K, L) per ratio."""

    case: OpenCase
    z: int
    image: torch.Tensor
    masks: list[torch.Tensor]


def open_cases(
    layout: Layout,
    keys: Mapping[str, str],
    settings: Residuals,
    patches: Sequence[int],
    slices: Slices,
    seed: int,
) -> Iterator[tuple[OpenCase, list[Work]]]:
    """Each case with its slices to reconstruct: no pass is due for an empty (constant) one.

    Args:
        layout: where the case stores lie.
        keys: case → the fingerprint of its residuals.
        settings: the residual set.
        patches: of a slice, for each of the set's maps.
        slices: how slices are scaled and resized.
        seed: of the masks.
    """
    for name, key in keys.items():
        started = time.monotonic()
        store = open_store(layout.case_store(name))
        image = read_array(store, "image")
        shown = [z for z, plane in enumerate(image) if plane.min() != plane.max()]
        per_slice = [
            [
                pass_masks(name, z, one, settings.masks, count, seed)
                for one, count in zip(settings.maps, patches, strict=True)
            ]
            for z in shown
        ]
        case = OpenCase(
            name=name,
            fingerprint=key,
            residual=np.zeros((len(settings.maps), len(image), *slices.size), np.float16),
            image_digest=str(store.attrs["sha256_image"]),
            remaining=len(shown),
            coverages=[coverage(torch.stack(one)) for one in zip(*per_slice, strict=True)],
            seconds=0.0,
        )
        limits = intensity_range(store.attrs, slices)
        work = [
            Work(case, z, network_slices(image[z : z + 1], limits, slices.size)[0], masks)
            for z, masks in zip(shown, per_slice, strict=True)
        ]
        case.seconds = time.monotonic() - started
        yield case, work


def slices_of(
    opened: Iterable[tuple[OpenCase, list[Work]]], keep: Callable[[OpenCase], None]
) -> Iterator[Work]:
    """The slices of every case in turn; a case without any is kept as it is."""
    for case, work in opened:
        if not work:
            keep(case)
        yield from work


def pass_masks(
    case: str,
    z: int,
    one: ResidualMap,
    scheme: Literal["random", "stratified"],
    patches: int,
    seed: int,
) -> torch.Tensor:
    """The masks of one slice's passes for one map: (K, L) bool, 1 = masked."""
    masks = slice_masks(
        seed=seed,
        case=case,
        slice_index=z,
        mask_ratio=one.mask_ratio,
        passes=one.passes,
        patches=patches,
        scheme=scheme,
    )
    return torch.from_numpy(masks)  # (K, L)
