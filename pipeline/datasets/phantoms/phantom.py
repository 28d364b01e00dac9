"""Writes synthetic cases of known truth in the layouts of ATLAS, MSD Task06 and orCaScore."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.cases import CaseFiles
from pipeline.errors import PipelineError
from pipeline.storage.files import remembered, write_json

if TYPE_CHECKING:
    from pipeline.datasets.phantoms.fields import PhantomCase

VERSION = 1
ADAPTER_OF = {"head": "atlas", "chest": "msd", "heart": "orcascore"}
KINDS = tuple(ADAPTER_OF)
SMALLEST = 8  # voxels along any axis
TRUTH = "truth.json"
WRITTEN = ".phantom.json"
# cohorts of a block of 24 cases: of unequal size, and several among the first few cases
COHORTS = (1, 2, 3, 1, 4, 2, 1, 5, 3, 1, 2, 6, 1, 4, 2, 1, 3, 1, 5, 2, 1, 3, 2, 4)
FIRST_UNLABELLED_COHORT = 200
FIRST_UNLABELLED_LUNG = 900
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """A case's name, number and files, relative to the root; `mask` is None if unlabelled."""

    name: str
    index: int
    image: str
    mask: str | None
    decoy: str | None = None
    cohort: int = 0
    size_class: int = 0
    group: str = ""

    @property
    def files(self) -> Iterator[str]:
        """Every file that the case may have."""
        for name in filter(None, (self.image, self.mask, self.decoy)):
            yield name
            if name.endswith(".mhd"):
                yield from (name[:-4] + suffix for suffix in (".raw", ".zraw"))


def phantom_files(kind: str, root: Path, cases: int, unlabelled: int = 0) -> list[CaseFiles]:
    """The cases that the adapter lists after `write_phantom`; a PipelineError for other kinds."""
    return [
        CaseFiles(
            place.name,
            root / place.image,
            root / place.mask if place.mask else None,
            group=place.group,
            role="" if place.mask else "unlabelled",
            modality="MR" if kind == "head" else "CT",
        )
        for place in sorted(_places(kind, cases, unlabelled), key=lambda place: place.name)
    ]


def write_phantom(
    kind: str,
    root: Path,
    *,
    cases: int,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
    unlabelled: int = 0,
) -> Path:
    """Write a phantom data set for the adapter `ADAPTER_OF[kind]`; return its `truth.json`.

    A case depends only on `seed`, `shape` (z, y, x; None is that of the real data set) and its own
    number. Files of an earlier call are removed first. The truth, written last, holds for each of
    the `cases` and the `unlabelled` ones `lesion_truth`, `labelled` and what its kind adds.

    Raises:
        PipelineError: unknown kind, or a shape below 8 voxels along an axis.
    """
    from pipeline.datasets.phantoms.fields import lesion_truth

    places = _places(kind, cases, unlabelled)
    if shape is not None and min(shape) < SMALLEST:
        raise PipelineError(f"phantom shape {shape}: expected at least {SMALLEST} along each axis")
    _remove_former(root)
    description = {"dataset.json": _decathlon_description(places)} if kind == "chest" else {}
    files = [TRUTH, *(name for place in places for name in place.files), *description]
    write_json(root / WRITTEN, {"files": files})  # for the next call to remove
    truths: dict[str, Any] = {}
    for place in places:
        case = _case(kind, seed, place, shape)
        _write_case(root, place, case, compress=kind != "heart" or place.index % 4 == 3)
        known = lesion_truth(case.label, case.geometry)
        truths[place.name] = {**known, **case.truth, "labelled": place.mask is not None}
        log.info("wrote phantom %s", place.name)
    for name, content in description.items():
        write_json(root / name, content)
    write_json(root / TRUTH, {"kind": kind, "seed": seed, "version": VERSION, "cases": truths})
    return root / TRUTH


def _places(kind: str, cases: int, unlabelled: int) -> list[_Place]:
    layouts = {"head": _head_place, "chest": _chest_place, "heart": _heart_place}
    if kind not in layouts:
        raise PipelineError(f"phantom kind {kind!r}: unknown; use one of {', '.join(KINDS)}")
    place = layouts[kind]
    return [place(k, True) for k in range(cases)] + [place(k, False) for k in range(unlabelled)]


def _head_place(index: int, labelled: bool) -> _Place:
    block, within = divmod(index, len(COHORTS))
    cohort = COHORTS[within] + block * max(COHORTS) + (0 if labelled else FIRST_UNLABELLED_COHORT)
    number = COHORTS[: within + 1].count(COHORTS[within])
    subject = f"sub-r{cohort:03}s{number:03}"
    part = "Training" if labelled else "Testing"
    stem = f"{part}/R{cohort:03}/{subject}/ses-1/anat/{subject}_ses-1_space-MNI152NLin2009aSym"
    return _Place(
        subject,
        index,
        f"{stem}_T1w.nii.gz",
        f"{stem}_label-L_desc-T1lesion_mask.nii.gz" if labelled else None,
        cohort=cohort,
        size_class=(cohort + number) % 3,  # every cohort has all three: they do not confound
        group=f"R{cohort:03}",
    )


def _chest_place(index: int, labelled: bool) -> _Place:
    name = f"lung_{index + 1 if labelled else FIRST_UNLABELLED_LUNG + index + 1:03}"
    if labelled:
        return _Place(name, index, f"imagesTr/{name}.nii.gz", f"labelsTr/{name}.nii.gz")
    return _Place(name, index, f"imagesTs/{name}.nii.gz", None)


def _heart_place(index: int, labelled: bool) -> _Place:
    vendor = f"V{index % 4 + 1}"
    name = f"{'TR' if labelled else 'TE'}{vendor}P{index // 4 + 1}"
    folder = "Training Set" if labelled else "Test Set"
    return _Place(
        name,
        index,
        f"{folder}/Images/{name}CTI.mhd",
        f"{folder}/Reference standard/{name}R.mhd" if labelled else None,
        decoy=f"{folder}/Images/{name}CTAI.mhd",
        group=vendor,
    )


def _case(kind: str, seed: int, place: _Place, shape: tuple[int, int, int] | None) -> PhantomCase:
    import numpy as np

    from pipeline.datasets.phantoms import chest, head, heart

    rng = np.random.default_rng([seed, KINDS.index(kind), place.mask is None, place.index])
    if kind == "head":
        return head.head_case(rng, shape or head.DEFAULT_SHAPE, place.cohort, place.size_class)
    if kind == "chest":
        return chest.chest_case(rng, place.index, shape or chest.DEFAULT_SHAPE)
    return heart.heart_case(rng, place.index, shape or heart.DEFAULT_SHAPE)


def _write_case(root: Path, place: _Place, case: PhantomCase, *, compress: bool) -> None:
    from pipeline.storage.images.volumes import write_volume

    arrays = ((place.image, case.image), (place.mask, case.label), (place.decoy, case.decoy))
    for name, array in arrays:
        if name is not None and array is not None:
            write_volume(root / name, array, case.geometry, compress=compress)


def _decathlon_description(places: list[_Place]) -> dict[str, Any]:
    training = [{"image": f"./{p.image}", "label": f"./{p.mask}"} for p in places if p.mask]
    tests = [f"./{place.image}" for place in places if not place.mask]
    return {
        "name": "Lung phantom",
        "description": "Synthetic chest CT in the layout of MSD Task06_Lung",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "cancer"},
        "numTraining": len(training),
        "numTest": len(tests),
        "training": training,
        "test": tests,
    }


def _remove_former(root: Path) -> None:
    """Remove the files of an earlier call, whose cases the adapter would list with the new ones."""
    former = root / WRITTEN
    names = (remembered(former) or {}).get("files")
    for name in names if isinstance(names, list) else ():
        path = root / str(name)
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            path.unlink()
