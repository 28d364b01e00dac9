"""`grcsf check`: every fault of a data set, and what the data set is like, before any stage runs.

It reads every case once, whole, a few at a time, with the checks of ingest. It writes `check.json`
and `check.html` to `results/<dataset>/check/`.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

from grcsf.components import lesion_sizes, voxel_volume_mm3
from grcsf.intensity import foreground_quantiles
from pipeline.datasets import CaseFiles, ListingError, list_cases
from pipeline.datasets.left_out import left_out
from pipeline.errors import SEVERITIES, Finding, PipelineError, findings_of
from pipeline.ingest import role_twins
from pipeline.ingestion.case_stores import case_content, case_key, read_case
from pipeline.planning.disk import disk_needed
from pipeline.planning.preflight import check_healthy, check_split, check_units
from pipeline.planning.sizes import map_bytes
from pipeline.settings import HEALTHY, Dataset, FurtherImage, external_set
from pipeline.storage.files import nearest_there
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import array_digest, compressed_bytes
from pipeline.tools.check.plausibility import (
    case_warnings,
    disk_warnings,
    spacing_warnings,
    twin_warnings,
)
from pipeline.tools.check.record import CaseFacts, Check, Quantiles, recording

log = logging.getLogger(__name__)


def check(
    layout: Layout,
    dataset: Dataset,
    root: Path,
    further: Sequence[FurtherImage],
    seed: int,
    threads: int,
) -> Check:
    """Read every case, write all findings as `check.json`, and return them.

    Faults of the listing (no case, a case twice, a label without image) are findings, too, and so
    is a split that the listed cases do not allow. All cases with a name of their own are read.

    Raises:
        PipelineError: the phantoms of the configuration are not written yet.
    """
    if dataset.source.phantom and not root.is_dir():
        raise PipelineError(
            f"{root}: the phantoms are not written yet; run snakemake with this configuration, or "
            f"grcsf phantom {dataset.source.phantom.kind} {root}"
        )
    files, findings = _listed(layout, dataset, root, further)
    undivided = _split_faults(dataset, files, seed)
    with recording(layout) as recorded:
        cases = []
        for facts, of_case in _read(files, dataset, threads):
            cases.append(recorded(facts))
            findings += of_case
        usable = Check(layout.dataset, cases, findings).usable
        findings += undivided
        findings += spacing_warnings([(each.case, each.spacing) for each in usable if each.spacing])
        twins = role_twins((each.case, each.voxel_digest or "", each.role) for each in usable)
        doubled = {twin.case for twin in twins}
        alike = ((each.case, each.voxel_digest or "") for each in usable)
        findings += [*twins, *twin_warnings(each for each in alike if each[0] not in doubled)]
        disk = disk_needed(dataset, usable) if usable else {}
        free = shutil.disk_usage(nearest_there(layout.root)).free
        findings += disk_warnings(sum(disk.values()), free)
        findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
        result = Check(layout.dataset, cases, findings, disk, free)
        recorded.rest(result)
    return result


def _read(
    files: list[CaseFiles], dataset: Dataset, threads: int
) -> Iterator[tuple[CaseFacts, list[Finding]]]:
    """The facts and findings of every case, some at a time; `files` is emptied on the way."""
    done, total = itertools.count(1), len(files)

    def looked_at(case: CaseFiles) -> tuple[CaseFacts, list[Finding]]:
        facts = case_facts(case, dataset)
        log.debug("%s", case.case, extra={"done": next(done), "of": total})
        return facts

    while files:
        jobs = [dask.delayed(looked_at)(case) for case in files[:AT_ONCE]]
        del files[:AT_ONCE]
        yield from dask.compute(*jobs, scheduler="threads", num_workers=threads)


def _split_faults(dataset: Dataset, files: Sequence[CaseFiles], seed: int) -> list[Finding]:
    try:
        if files:  # otherwise the listing has a finding already
            check_split(dataset, files, seed)
            check_units(dataset, files)
            check_healthy(dataset, files)
    except PipelineError as error:
        return list(error.findings)
    return []


def _listed(
    layout: Layout, dataset: Dataset, root: Path, further: Sequence[FurtherImage]
) -> tuple[list[CaseFiles], list[Finding]]:
    """The cases, and findings on their listing and on files that it leaves out."""
    source = dataset.source
    try:
        given = (source.adapter, root, further, source.foreground)
        files, findings = list_cases(*given, labels=source.labels), []
    except ListingError as error:
        files, findings = error.cases, list(error.findings)
    except PipelineError as error:
        return [], list(error.findings)
    notes = []
    unlabelled = sum(case.label is None and case.role == "unlabelled" for case in files)
    if unlabelled:
        note = f"{unlabelled} of {len(files)} cases without reference: predicted, not scored"
        notes.append(Finding(note, severity="note"))
    if healthy := sum(case.role == HEALTHY for case in files):
        note = f"{healthy} of {len(files)} cases healthy: only autoencoders learn from them"
        notes.append(Finding(note, severity="note"))
    inside = [case for case in files if not external_set(case.role)]
    passed = left_out(source, root, inside, findings, layout.root)
    for each in further:
        if each.source is None:
            continue
        own = [case for case in files if case.role == each.role]
        of = each.role.replace("/", " set ")
        note = f"{len(own)} of {len(files)} cases are of {of}: only tested"
        notes.append(Finding(note, severity="note"))
        passed += left_out(each.source, each.path, own, findings, layout.root)
    return files, [*findings, *notes, *passed]


AT_ONCE = 500  # cases that jobs are made for; as many are read as there are threads
SAMPLED_SLICES = 12
SHOWN_QUANTILES = Quantiles(low=0.005, median=0.5, high=0.995)


def case_facts(files: CaseFiles, dataset: Dataset) -> tuple[CaseFacts, list[Finding]]:
    """Read one case whole: its description and its findings. A fault raises nothing."""
    facts: dict[str, Any] = {"case": files.case, "group": files.group, "role": files.role}
    facts["labelled"] = files.label is not None
    try:
        return _facts_read(files, dataset, facts)
    except Exception as error:  # whatever a library raises about one case leaves the others
        return CaseFacts(**facts), list(findings_of(error, files.image, files.case))


def _facts_read(
    files: CaseFiles, dataset: Dataset, facts: dict[str, Any]
) -> tuple[CaseFacts, list[Finding]]:
    """See `case_facts`; `facts` has what the listing knows."""
    source = dataset.source_of(files.role)
    loaded = read_case(files, source, dataset.slices.plane)
    findings = [*loaded.faults, *loaded.notes]
    if loaded.image is None:
        return CaseFacts(**facts), findings
    geometry = loaded.image.geometry
    facts |= {"shape": geometry.shape, "spacing": geometry.spacing}
    if loaded.faults:
        return CaseFacts(**facts), findings
    facts["fingerprint"] = case_key(files, source)[0]
    if loaded.label is not None:
        facts |= _lesion_facts(loaded.label, geometry)
    modality = source.modality or files.modality
    arrays, attributes = case_content("", loaded, modality)
    image = arrays["image"]
    limits = intensity_range(attributes, dataset.slices)
    calcium = dataset.evaluation.metrics == "calcium"
    findings = case_warnings(loaded, modality, limits, lesion_free=calcium)
    shown = foreground_quantiles(image, SHOWN_QUANTILES)
    facts |= {
        "voxel_digest": array_digest(image),
        "quantiles": Quantiles(*map(float, shown)),
        "empty_slices": len(attributes["empty_slices"]),
        "store_bytes": sum(_stored(array) for array in arrays.values()),
        "map_bytes": map_bytes(len(image) - len(attributes["empty_slices"]), dataset.slices),
    }
    return CaseFacts(**facts), findings


def _lesion_facts(label: npt.NDArray[np.uint8], geometry: Geometry) -> dict[str, Any]:
    sizes, voxel_mm3 = lesion_sizes(label > 0), voxel_volume_mm3(geometry.spacing)
    return {
        "lesions": len(sizes),
        "each_lesion_voxels": sizes.tolist(),
        "each_lesion_mm3": (sizes * voxel_mm3).tolist(),
        "lesion_voxels": int(sizes.sum()),
        "lesion_ml": float(sizes.sum() * voxel_mm3 / 1000),
        "lesion_slices": int(np.count_nonzero(label.any(axis=(1, 2)))),
    }


def _stored(array: npt.NDArray[Any]) -> int:
    """Bytes on disk, estimated from slices that are evenly spread."""
    count = len(array)
    spread = np.linspace(0, count - 1, min(count, SAMPLED_SLICES)).round()
    sampled = np.unique(spread.astype(np.int64))
    return round(sum(map(compressed_bytes, array[sampled])) * count / len(sampled))
