"""How large the cases of a data set are, as far as names and headers tell, before one is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets import CaseFiles
from pipeline.datasets.dicom import slices_among
from pipeline.errors import PipelineError
from pipeline.raw_files import stored_shape
from pipeline.settings import Slices
from pipeline.store_sizes import case_bytes, map_bytes
from pipeline.volumes import read_geometry

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
