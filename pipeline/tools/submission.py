"""`grcsf submission`: the masks of orCaScore's test scans in the challenge's form, and its checks.

The challenge (orcascore.isi.uu.nl, Submit) takes one 16-bit MetaImage (`.mhd` with `.raw`) per test
scan, on the scan's grid, with 1 LAD, 2 LCX, 3 RCA, and 4 if the artery is not determined. The
networks do not name arteries, so calcium is 4. A file has the name of the reference standard's:
`TEV1P1R.mhd`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.calcium import THRESHOLD_HU
from grcsf.components import label_lesions
from pipeline.errors import PipelineError
from pipeline.storage.batches import read_parts
from pipeline.storage.files import make_output, read_json
from pipeline.storage.images.source_grid import to_source_grid, to_working_grid
from pipeline.storage.images.volumes import Volume, read_volume, write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import (
    grid_differences,
    read_hu,
    read_mask,
    source_geometry,
    store_geometry,
)
from pipeline.storage.zarr_store import Store, open_store

UNDETERMINED = 4
log = logging.getLogger(__name__)


def submission(layout: Layout, experiment: str, subset: int, output: Path) -> None:
    """Write the test scans' masks, and read them back.

    Raises:
        PipelineError: there is no test scan, a mask is missing, or see `check_submission`.
    """
    scans, masks = _test_scans(layout), layout.masks(experiment, subset)
    made = read_parts(masks)
    remedy = "run predict and postprocess, where predictions are given after adding its file"
    missing = [f"case {case}: no mask in {masks}; {remedy}" for case in scans if case not in made]
    if missing:
        raise PipelineError(*missing)
    make_output(output)
    for case in scans:
        store = open_store(layout.case_store(case))
        mask = read_mask(layout, experiment, subset, case, store)
        source = source_geometry(store)
        mask = to_source_grid(mask, source, store_geometry(store))
        labels = (mask * UNDETERMINED).astype(np.int16)
        write_volume(output / _file_name(case), labels, source, compress=False)
        log.info("%s: %s, %d voxels", experiment, output / _file_name(case), int(mask.sum()))
    check_submission(layout, output)


def check_submission(layout: Layout, folder: Path) -> None:
    """Refuse a folder that the challenge would refuse.

    Raises:
        PipelineError: a scan without file, a file without scan, another voxel type, grid or value,
            a lesion of several arteries, calcium that is not > 130 HU: one line a fault.
    """
    scans = _test_scans(layout)
    wanted = {_file_name(case) for case in scans}
    faults = [
        f"{path}: belongs to no test scan of {layout.dataset}; remove it"
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in {".mhd", ".mha"} and path.name not in wanted
    ]
    for case in scans:
        path = folder / _file_name(case)
        if not path.is_file():
            faults.append(f"{path}: not there, expected one for every test scan")
            continue
        try:
            volume = read_volume(path, tilted=True)
        except PipelineError as error:
            faults.append(str(error))
            continue
        store = open_store(layout.case_store(case))
        faults += [f"{path}: {fault}" for fault in _faults(volume, store)]
    if faults:
        raise PipelineError("\n".join(["the challenge would refuse this submission:", *faults]))
    log.info("%s: %d scans as the challenge takes them", folder, len(scans))


def _faults(volume: Volume, store: Store) -> list[str]:
    source = source_geometry(store)
    faults = [f"has {difference}" for difference in grid_differences(volume.geometry, source)]
    if volume.geometry.shape != source.shape:
        return faults
    labels = volume.array
    if labels.dtype != np.int16:
        return [*faults, f"found {labels.dtype} voxels, expected 16-bit signed ones (MET_SHORT)"]
    values = np.unique(labels)
    if values.min() < 0 or values.max() > UNDETERMINED:
        return [*faults, f"found the values {values.tolist()}, expected 0 to {UNDETERMINED}"]
    working = store_geometry(store)
    return faults + _calcium_faults(to_working_grid(labels, source, working, nearest=True), store)


def _calcium_faults(labels: npt.NDArray[Any], store: Store) -> list[str]:
    faults = []
    above = read_hu(store) > THRESHOLD_HU
    if outside := int(np.count_nonzero((labels > 0) & ~above)):
        faults.append(
            f"{outside} labelled voxels are not > {THRESHOLD_HU:g} HU; use postprocess.method "
            "calcium and run again"
        )
    lesions, number = label_lesions((labels > 0) & above)
    inside = lesions > 0
    kinds = np.unique(np.stack([lesions[inside], labels[inside]]), axis=1).shape[1]
    if kinds > number:
        faults.append(
            f"{kinds - number} further labels in lesions that have one already; every 3D "
            "6-connected lesion belongs to one artery"
        )
    return faults


def _test_scans(layout: Layout) -> list[str]:
    scans = sorted(read_json(layout.split)["unlabelled"])
    if not scans:
        raise PipelineError(
            f"{layout.dataset}: no test scan without reference, so nothing to submit; put the "
            "challenge's TEV and VAV scans beside the training scans and run the pipeline again"
        )
    return scans


def _file_name(case: str) -> str:
    return f"{case}R.mhd"
