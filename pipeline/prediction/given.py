"""Given predictions: masks of another tool or a second reader, one file a case.

They lie in their image's geometry, 0 where there is no lesion and 1 where there is one. All that is
wrong with any of them is told at once. One case is in memory at a time.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.cases import shortened
from pipeline.datasets.loading import geometry_faults
from pipeline.errors import Finding, PipelineError, findings_of
from pipeline.prediction.inputs import given_images
from pipeline.prediction.predictor import Predictor, Probability
from pipeline.settings import GivenPredictions
from pipeline.settings.paths import file_refusal
from pipeline.storage.batches import ALL, batch_part, in_batch
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.images.headers import data_files
from pipeline.storage.images.names import SUFFIXES, without_suffix
from pipeline.storage.images.nearest import nearest_on_grid
from pipeline.storage.images.source_grid import to_working_grid
from pipeline.storage.images.volumes import Volume, read_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import GRID_KEYS, Mask, source_geometry, store_geometry
from pipeline.storage.source_notes import file_stats, write_source_note
from pipeline.storage.zarr_store import Store

log = logging.getLogger(__name__)
SHOWN_VALUES = 5


def given_predictor(
    layout: Layout,
    name: str,
    subset: int,
    settings: GivenPredictions,
    tested: Sequence[str],
    further: Sequence[str],
    batch: str = ALL,
) -> Predictor:
    """The masks of all `tested` cases, and of those of the `further` ones that have a file.

    Raises:
        PipelineError: there is no such folder.
    """
    images = given_images(layout, name, settings)
    by_case = _by_case(images)
    known = read_json(layout.cases)
    faults = [
        *_missing(settings, tested, by_case),
        *_unknown(layout.dataset, by_case, {*known["cases"], *known["set_aside"]}, batch),
        *_doubled(by_case, batch),
    ]
    wanted = [case for case in (*tested, *further) if len(by_case.get(case, ())) == 1]
    others = sorted((by_case.keys() & known["cases"].keys()) - {*tested, *further})
    if passed := [case for case in others if in_batch(case, batch)]:
        log.info("%s, subset %d: not tested here: %s", name, subset, shortened(passed))
    strange = _no_files({case: by_case[case][0] for case in wanted})
    odd = {fault.case for fault in strange}
    files = {case: data_files(by_case[case][0]) for case in wanted if case not in odd}
    stats = file_stats(file for each in files.values() for file in each)
    digests, unreadable = _digests(files)
    closed = odd | {fault.case for fault in unreadable}
    wanted = [case for case in wanted if case not in closed]
    manifest = layout.predictions(name, batch_part(subset, batch))
    note = layout.sources(layout.work_of(manifest))
    write_source_note(note, stats, digests)

    def key(case: str, store: Store) -> dict[str, Any]:
        grid = source_geometry(store)
        return {
            "given": [digests[file] for file in files[case]],
            "resample": settings.resample,
            "grid": [getattr(grid, part) for part in GRID_KEYS],
        }

    def probability(case: str, store: Store) -> Probability:
        path = by_case[case][0]
        try:
            return given_mask(path, case, store, name, resample=settings.resample)
        except Exception as error:  # whatever a library raises about one file leaves the others
            found = findings_of(error, path, case)
            raise PipelineError(*(replace(each, case=case) for each in found)) from error

    return Predictor(wanted, key, probability, faults=[*faults, *strange, *unreadable])


def given_mask(
    path: Path, case: str, store: Store, name: str, *, resample: bool = False
) -> Probability:
    """A given mask on the grid of its case's store, as probabilities of 0 and 1.

    `name` is the experiment's. With `resample` a mask may lie on any grid.

    Raises:
        PipelineError: it is unreadable, not of 0 and 1 alone, or lies elsewhere than its image.
    """
    volume, source = read_volume(path, tilted=True), source_geometry(store)
    faults = _value_faults(volume.array)
    elsewhere = geometry_faults(source, volume.geometry)
    if elsewhere and not resample:
        remedy = f"resample it on to the image, or set experiments.{name}.resample: true"
        faults += [
            replace(fault, found=fault.found.replace("label", "mask", 1), remedy=remedy)
            for fault in elsewhere
        ]
    if faults:
        raise PipelineError(*(replace(fault, case=case, file=str(path)) for fault in faults))
    mask: Mask = volume.array > 0
    if elsewhere:
        mask = _resampled(Volume(mask, volume.geometry), store, path, case)
    return to_working_grid(mask, source, store_geometry(store), nearest=True).astype(np.float16)


def _resampled(mask: Volume, store: Store, path: Path, case: str) -> Mask:
    resampled: Mask = nearest_on_grid(mask.array, mask.geometry, source_geometry(store))
    if mask.array.any() and not resampled.any():
        found, expected = "a mask that lies wholly outside the image", "one that overlaps it"
        remedy = "correct the header that is wrong, or redraw it"
        raise PipelineError(Finding(found, expected, remedy, str(path), case))
    return resampled


def _value_faults(array: npt.NDArray[Any]) -> list[Finding]:
    others = array[(array != 0) & (array != 1)]
    if not others.size:
        return []
    values = np.unique(others)
    shown = ", ".join(f"{value:.9g}" for value in values[:SHOWN_VALUES].tolist())
    more = ", …" if values.size > SHOWN_VALUES else ""
    found = f"{others.size} voxels of value {shown}{more}"
    return [Finding(found, "0 and 1 alone", "export the lesion as 1 and all else as 0")]


def _by_case(images: Iterable[Path]) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in images:
        found[without_suffix(path.name)].append(path)
    return dict(found)


def _missing(
    settings: GivenPredictions, tested: Sequence[str], by_case: Mapping[str, Any]
) -> list[Finding]:
    expected = "one of every test case, named CASE and one of " + ", ".join(SUFFIXES)
    return [
        Finding("no mask", expected, "add or rename it", settings.predictions, case)
        for case in tested
        if case not in by_case
    ]


def _unknown(
    dataset: str, by_case: Mapping[str, Sequence[Path]], known: set[str], batch: str
) -> list[Finding]:
    expected = f"the name of a case of {dataset}, such as {min(known, default='none')}"
    return [
        Finding(
            f"the mask of {case!r}, which is no case", expected, "rename or remove it", str(file)
        )
        for case, files in sorted(by_case.items())
        for file in files
        if case not in known and in_batch(case, batch)
    ]


def _doubled(by_case: Mapping[str, Sequence[Path]], batch: str) -> list[Finding]:
    return [
        Finding(
            f"several masks: {', '.join(file.name for file in files)}",
            "one",
            "keep the right one",
            str(files[0].parent),
            case,
        )
        for case, files in sorted(by_case.items())
        if len(files) > 1 and in_batch(case, batch)
    ]


def _no_files(masks: Mapping[str, Path]) -> list[Finding]:
    """A fault for each case whose mask is a folder, a link to nothing or another thing."""
    remedy, faults = "put the mask itself there", []
    for case, path in masks.items():
        if refusal := file_refusal(path):
            gone = refusal == "not there"
            found = "found a link to what is not there, expected a file" if gone else refusal
            faults.append(Finding(found, "", remedy, str(path), case))
    return faults


def _digests(files: Mapping[str, Sequence[Path]]) -> tuple[dict[Path, str], list[Finding]]:
    """SHA-256 of each file, and a fault for each that cannot be read."""
    digests, faults = {}, []
    for case, paths in files.items():
        for path in paths:
            try:
                digests[path] = file_digest(path)
            except OSError as error:
                found = error.strerror or str(error)
                remedy = "export it again, or give the right to read it"
                faults.append(Finding(found, "a readable file", remedy, str(path), case))
    return digests, faults
