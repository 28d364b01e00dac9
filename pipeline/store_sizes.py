"""Disk that the stores of a data set will take, without reading an image or building a network.

Figures per voxel were measured on full-size phantoms (docs/stores.md) and hold compressed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from pipeline.settings import Dataset, Slices, Split
from pipeline.targets import used_residuals

CASE_BYTES = 1.2  # a voxel of image and label: 1.13 to 1.27
# A residual is noise to a compressor: measured on phantoms and real images, a map's value takes
# 1.67 to 1.79 of its 2 bytes, and 1.4 where most of the image is a background of zeros.
MAP_VALUE_BYTES = 1.75
PREDICTION_BYTES = 1.2  # a voxel: 0.3 to 1.7


class Sized(Protocol):
    """What the estimate has to know of a case."""

    @property
    def labelled(self) -> bool:
        """Whether it has a reference."""

    @property
    def role(self) -> str:
        """What the data set itself makes of it, or ""."""

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Voxels (z, y, x), or None where unknown."""

    @property
    def store_bytes(self) -> int | None:
        """Of its case store."""

    @property
    def map_bytes(self) -> int | None:
        """Of one of its residual maps."""


def case_bytes(shape: tuple[int, int, int]) -> int:
    """What a case store of so many voxels will take."""
    return round(CASE_BYTES * math.prod(shape))


def map_bytes(seen: int, slices: Slices) -> int:
    """What a residual map of so many slices that are not empty will take."""
    return round(MAP_VALUE_BYTES * seen * math.prod(slices.size))


def size_text(count: int) -> str:
    """Bytes in a unit that suits them."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def stores_needed(dataset: Dataset, cases: Sequence[Sized]) -> dict[str, int]:
    """Bytes of all stores that a run of everything makes, by kind."""
    return {
        "case stores": sum(one.store_bytes or 0 for one in cases),
        "residual stores": round(_residual_bytes(dataset, cases)),
        "predictions": round(PREDICTION_BYTES * _predicted_voxels(dataset, cases)),
    }


def _residual_bytes(dataset: Dataset, cases: Sequence[Sized]) -> float:
    """A set is made for the subsets whose experiments see it, and for cases of no subset."""
    one_map = {True: 0, False: 0}
    for one in cases:
        one_map[one.labelled] += one.map_bytes or 0
    total = 0.0
    for name in used_residuals(dataset, dataset.experiments):
        share = len(dataset.subsets_with(name)) / dataset.split.subsets
        maps = len(dataset.residuals[name].titles)
        total += maps * (share * one_map[True] + one_map[False])
    return total


def _predicted_voxels(dataset: Dataset, cases: Sequence[Sized]) -> float:
    """Voxels of all predictions, if test cases are as large as the others."""
    voxels = {True: 0.0, False: 0.0}
    for one in cases:
        if one.shape:
            voxels[one.labelled] += math.prod(one.shape)
    per_subset = voxels[True] * _tested_share(dataset.split, cases) / dataset.split.subsets
    return sum(
        len(dataset.subsets_of(name)) * (per_subset + voxels[False]) for name in dataset.experiments
    )


def _tested_share(split: Split, cases: Sequence[Sized]) -> float:
    """The part of all labelled cases that the subsets together test, about."""
    labelled = [one for one in cases if one.labelled]
    if given := [one for one in labelled if one.role]:
        return sum(one.role == "test" for one in given) / len(labelled)
    if isinstance(split.test, int):
        return min(1.0, split.test * split.subsets / max(1, len(labelled)))
    return split.test
