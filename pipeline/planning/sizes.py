"""How large the cases of a data set are, as far as names and headers tell, before one is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.datasets import CaseFiles
from pipeline.datasets.dicom import slices_among
from pipeline.errors import PipelineError
from pipeline.settings import Dataset, Slices, Split
from pipeline.settings.model import used_residuals
from pipeline.storage.image_headers import stored_shape
from pipeline.storage.volumes import read_geometry

Shape = tuple[int, int, int]
HEART: Shape = (40, 512, 512)
ASSUMED: dict[str, Shape] = {"atlas": (189, 233, 197), "msd": (120, 512, 512)}
"""Voxels (z, y, x) where no header tells: those of the phantoms; all other adapters have HEART."""


@dataclass(frozen=True)
class CaseSize:
    """A case that nobody has read.

    Attributes:
        case: its name.
        group: cohort, hospital or vendor.
        role: what the data set itself makes of it, or "".
        labelled: whether it has a reference.
        shape: voxels (z, y, x).
        known: whether the shape is its own header's; else it is assumed.
        store_bytes: what the case store will take, about.
        map_bytes: what one residual map will take at most, about: as if no slice were empty.
    """

    case: str
    group: str
    role: str
    labelled: bool
    shape: Shape
    known: bool
    store_bytes: int
    map_bytes: int


def case_sizes(
    files: Sequence[CaseFiles],
    adapter: str,
    slices: Slices,
    *,
    shape: Shape | None = None,
    headers: int | None = None,
) -> list[CaseSize]:
    """The size of every case.

    Args:
        files: the listed cases.
        adapter: what is assumed where no header can be read.
        slices: size of a residual map.
        shape: of all of them, where it is known without a look, such as of phantoms.
        headers: read at most so many, evenly spread; the others are taken to be like their middle.
    """
    sizes: dict[str, Shape] = {}
    if shape is None:
        step = max(1, len(files) // headers) if headers else 1
        sizes = dict(_read(files[::step]))
    usual = shape or _middle(list(sizes.values())) or ASSUMED.get(adapter, HEART)
    return [
        CaseSize(
            one.case,
            one.group,
            one.role,
            one.label is not None,
            size,
            one.case in sizes or shape is not None,
            case_bytes(size),
            map_bytes(size[0], slices),
        )
        for one in files
        for size in [sizes.get(one.case, usual)]
    ]


def _read(files: Sequence[CaseFiles]) -> Iterator[tuple[str, Shape]]:
    for one in files:
        found = _shape_of(one.image)
        if found is not None:
            yield one.case, found


def _shape_of(image: Path) -> Shape | None:
    """The voxels of one image; None where only reading it would tell.

    What is wrong with a file is for `ingest` to say, with all that is wrong with the others.
    """
    try:
        if image.is_dir():
            return _series_shape(image)
        return stored_shape(image) or read_geometry(image).shape
    except (OSError, PipelineError, ImportError):  # Snakemake's own environment may lack ITK
        return None


def _series_shape(folder: Path) -> Shape | None:
    """Rows and columns of one file, so that a series costs one look; its files are its slices."""
    names = slices_among(one.name for one in folder.iterdir())
    if not names:
        return None
    frames, rows, columns = read_geometry(folder / names[0]).shape
    return (len(names) if len(names) > 1 else frames), rows, columns


def _middle(sizes: list[Shape]) -> Shape | None:
    return sorted(sizes)[len(sizes) // 2] if sizes else None


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
