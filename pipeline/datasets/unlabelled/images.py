"""A folder of scans in no layout: every image file and every folder of DICOM slices below it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.datasets.cases import CaseFiles, checked
from pipeline.storage.images.dicom.content import may_hold_slices
from pipeline.storage.images.names import SUFFIXES, looks_like_image, without_suffix

LOOKS_FOR = f"images ({', '.join(SUFFIXES)}) or DICOM slices in any folders"
# files beside scans that are never opened to see whether they are DICOM
BESIDE = (".json", ".txt", ".csv", ".tsv", ".bval", ".bvec", ".raw", ".zip", ".gz", ".md", ".xml")


def fits(root: Path) -> bool:
    """Whether there is an image or a DICOM slice below `root`."""
    return root.is_dir() and next(_scans(root), None) is not None


def list_cases(root: Path) -> list[CaseFiles]:
    """Every image file and folder of DICOM slices below `root`, without label.

    A case is called after its path below `root`, joined by `-` and without the file's ending, so
    that a scan which comes later renames no other. Localizers, hidden files and stores are passed
    over; links to folders are followed.

    Raises:
        ListingError: no scan, or two whose names do not differ.
    """
    cases = [CaseFiles(name, path, None, role="unlabelled") for name, path in _scans(root)]
    return checked(cases, root, LOOKS_FOR)


def _scans(root: Path) -> Iterator[tuple[str, Path]]:
    for place, below, names in os.walk(root, followlinks=True):
        kept = (name for name in below if name[0] != "." and not name.endswith(".zarr"))
        folder, visible = Path(place), sorted(name for name in names if name[0] != ".")
        below[:] = sorted(name for name in kept if not _leads_back(folder / name, root))
        way = folder.relative_to(root).parts
        for name in filter(looks_like_image, visible):
            yield _name((*way, without_suffix(name))), folder / name
        others = (name for name in visible if not name.lower().endswith((*SUFFIXES, *BESIDE)))
        if _holds_slices(folder / name for name in others):
            yield _name(way or (root.resolve().name,)), folder


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a link leads to a folder on the way to it, where a walk would never end."""
    if not folder.is_symlink():
        return False
    target = os.path.realpath(folder)
    way = [place for place in folder.parents if place == root or place.is_relative_to(root)]
    return any(Path(os.path.realpath(place)).is_relative_to(target) for place in way)


def _holds_slices(files: Iterable[Path]) -> bool:
    """Whether one of these files is a slice, which settles it: a scan has thousands of them."""
    return any(map(may_hold_slices, files))


def _name(parts: tuple[str, ...]) -> str:
    """A name usable as a file name, which begins with a letter or digit."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", "-".join(parts)).lstrip("_.-+")
