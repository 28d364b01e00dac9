"""Sizes of cases and stores, estimated from file names and headers before any image is read.

Snakemake's own environment imports this module, so it needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.datasets import CaseFiles
from pipeline.errors import PipelineError
from pipeline.settings import HEALTHY, Dataset, Slices, Split, configured, external_set
from pipeline.settings.instances import residual_instances
from pipeline.storage.images.dicom.content import USUAL, may_hold_slices
from pipeline.storage.images.dicom.series import frames_shape
from pipeline.storage.images.headers import stored_shape
from pipeline.storage.images.source_grid import working_grid
from pipeline.storage.images.volumes import read_geometry

Shape = tuple[int, int, int]
HEART: Shape = (40, 512, 512)
ASSUMED: dict[str, Shape] = {"atlas": (189, 233, 197), "msd": (120, 512, 512)}
"""Voxels (z, y, x) where no header can be read: the phantoms'; other adapters have HEART's."""


@dataclass(frozen=True)
class CaseSize:
    """The size of a case that nobody has read yet."""

    case: str
    group: str  # cohort, hospital or vendor
    role: str  # given by the data set itself, or ""
    labelled: bool  # has a reference
    shape: Shape  # voxels (z, y, x)
    known: bool  # from its own header; otherwise assumed
    store_bytes: int  # of the case store, estimated
    map_bytes: int  # of one residual map, as if no slice were empty


def case_sizes(
    files: Sequence[CaseFiles],
    adapter: str,  # decides the shape that is assumed
    slices: Slices,
    *,
    shape: Shape | None = None,  # of all cases, where known already, as of phantoms
    headers: int | None = None,  # read at most these, evenly spread
) -> list[CaseSize]:
    """The size of every case.

    A case whose header is not read gets the middle shape of the others, or the assumed one.
    """
    sizes: dict[str, Shape] = {}
    if shape is None:
        step = max(1, len(files) // headers) if headers else 1
        read = {case.case: _shape_of(case.image, slices.plane) for case in files[::step]}
        sizes = {case: size for case, size in read.items() if size is not None}
    middle = sorted(sizes.values())[len(sizes) // 2] if sizes else None
    usual = shape or middle or ASSUMED.get(adapter, HEART)
    listed = []
    for case in files:
        facts = (case.case, case.group, case.role, case.label is not None)
        size, known = sizes.get(case.case, usual), case.case in sizes or shape is not None
        bytes_of_maps = map_bytes(size[0], slices)
        listed.append(CaseSize(*facts, size, known, case_bytes(size), bytes_of_maps))
    return listed


def _shape_of(image: Path, plane: str) -> Shape | None:
    """The shape of one image with slices in this plane; None if its header does not tell.

    A faulty file raises nothing: ingest reports the faults of all files together.
    """
    try:
        if image.is_dir():
            return _series_shape(image)
        if plane == "axial":
            with suppress(PipelineError, ImportError):
                return working_grid(read_geometry(image, tilted=True), plane).shape
        return stored_shape(image) or read_geometry(image).shape
    except (OSError, PipelineError, ImportError):  # Snakemake's own environment may lack ITK
        return None


def _series_shape(folder: Path) -> Shape | None:
    """Shape of a DICOM series from one header: its files are its slices, give or take a few."""
    files = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    slices = (path for path in files if may_hold_slices(path))
    first = next(slices, None)
    if first is None:
        return None
    frames, rows, columns = frames_shape(first)
    if frames == 1:
        alike = [path for path in files if path.suffix == first.suffix]
        frames = len(alike if first.suffix.lower() in USUAL else files)
    return frames, rows, columns


CASE_BYTES = 1.2  # a voxel of image and label: 1.13 to 1.27
# A residual is noise to a compressor: measured on phantoms and real images, a map's value takes
# 1.67 to 1.79 of its 2 bytes, and 1.4 where most of the image is a background of zeros.
MAP_VALUE_BYTES = 1.75
PREDICTION_BYTES = 1.2  # a voxel: 0.3 to 1.7


class Sized(Protocol):
    """The facts of a case that the estimates need."""

    @property
    def labelled(self) -> bool:
        """Whether it has a reference."""

    @property
    def role(self) -> str:
        """The role that the data set itself gives it, or ""."""

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Voxels (z, y, x), or None where unknown."""

    @property
    def store_bytes(self) -> int | None:
        """Size of its case store."""

    @property
    def map_bytes(self) -> int | None:
        """Size of one of its residual maps."""


class WithRole(Protocol):
    """A case as it was listed, or as its size was estimated."""

    @property
    def role(self) -> str:
        """The role that the data set itself gives it, or ""."""


AnyCase = TypeVar("AnyCase", bound=WithRole)


def predictable(cases: Iterable[AnyCase]) -> list[AnyCase]:
    """The cases that get residual maps and predictions: all but healthy scans."""
    return [case for case in cases if case.role != HEALTHY]


def case_bytes(shape: tuple[int, int, int]) -> int:
    """Estimated size of a case store."""
    return round(CASE_BYTES * math.prod(shape))


def map_bytes(seen: int, slices: Slices) -> int:
    """Estimated size of a residual map with `seen` slices that are not empty."""
    return round(MAP_VALUE_BYTES * seen * math.prod(slices.size))


def size_text(count: int) -> str:
    """Bytes in a readable unit."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * factor:  # what is rounded to three digits has no fourth
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def stores_needed(dataset: Dataset, cases: Sequence[Sized]) -> dict[str, int]:
    """Bytes of all stores of a whole run, by kind."""
    return {
        "case stores": sum(case.store_bytes or 0 for case in cases),
        "residual stores": round(_residual_bytes(dataset, cases)),
        "predictions": round(PREDICTION_BYTES * _predicted_voxels(dataset, cases)),
    }


def _residual_bytes(dataset: Dataset, cases: Sequence[Sized]) -> float:
    """A residual set covers the subsets whose experiments see it, and the unlabelled cases.

    A set that each fold has its own of covers all cases as often.
    """
    one_map = {True: 0, False: 0}
    for case in predictable(cases):
        one_map[is_divided(case)] += case.map_bytes or 0
    total = 0.0
    for name in residual_instances(dataset, dataset.experiments):
        maps = len(dataset.residuals[configured(name)].titles)
        total += maps * (mapped_share(dataset, name) * one_map[True] + one_map[False])
    return total


def is_divided(case: Sized) -> bool:
    """Whether the split divides it: all subsets predict what has no reference or is external."""
    return case.labelled and not external_set(case.role)


def mapped_share(dataset: Dataset, residuals: str) -> float:
    """The share of all labelled cases that get maps of an instance of a residual set."""
    folds = dataset.split.folds is not None  # each of them has all cases
    return 1.0 if folds else len(dataset.subsets_with(residuals)) / dataset.split.subsets


def _predicted_voxels(dataset: Dataset, cases: Sequence[Sized]) -> float:
    """Voxels of all predictions, assuming that test cases are as large as the others."""
    voxels, external = {True: 0.0, False: 0.0}, 0.0
    for case in predictable(cases):
        if case.shape and case.labelled and external_set(case.role):
            external += math.prod(case.shape)
        elif case.shape:
            voxels[case.labelled] += math.prod(case.shape)
    per_subset = voxels[True] * _tested_share(dataset.split, cases) / dataset.split.parts
    folds = dataset.split.folds is not None  # one of them predicts the unlabelled cases
    total = 0.0
    for name, experiment in dataset.experiments.items():
        count = len(dataset.subsets_of(name))
        once = count * (per_subset + external) + (1 if folds else count) * voxels[False]
        total += experiment.repeats * once
    return total


def _tested_share(split: Split, cases: Sequence[Sized]) -> float:
    """The share of all labelled cases that the subsets test together."""
    if split.folds:
        return 1.0
    labelled = [case for case in cases if is_divided(case)]
    if given := [case for case in labelled if case.role]:
        return sum(case.role == "test" for case in given) / len(labelled)
    if isinstance(split.test, int):
        return min(1.0, split.test * split.subsets / max(1, len(labelled)))
    return split.test
