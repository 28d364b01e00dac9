"""`grcsf check`: all that is wrong with a data set, and what it is like, before any stage runs.

Every case is read once, whole, a few at a time; the checks are ingest's own. What is found lies in
`results/<dataset>/check/`: `check.json`, and `check.html` to read and to pass on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import dask

from pipeline.case_facts import case_facts
from pipeline.check_record import Check, write_check
from pipeline.datasets import CaseFiles, ListingError, list_cases
from pipeline.datasets.left_out import left_out
from pipeline.disk import disk_needed
from pipeline.doubts import disk_doubts, spacing_doubts, twin_doubts
from pipeline.errors import PipelineError
from pipeline.files import nearest_there
from pipeline.findings import SEVERITIES, Finding
from pipeline.layout import Layout
from pipeline.needs import memory_needed
from pipeline.preflight import check_split, check_units
from pipeline.settings import Dataset, Resources


def check(
    layout: Layout,
    dataset: Dataset,
    root: Path,
    further: Sequence[Path],
    seed: int,
    resources: Resources,
) -> Check:
    """Read every case, write what was found as `check.json`, and return it.

    What is wrong with the listing (no case, a case twice, a label without image) is among the
    findings; the cases that can be told apart are read all the same. So is a split that the listed
    cases cannot have.

    Raises:
        PipelineError: the phantoms that the configuration asks for are not written yet.
    """
    if dataset.source.phantom and not root.is_dir():
        raise PipelineError(
            f"{root}: the phantoms are not written yet; run snakemake with this configuration, or "
            f"grcsf phantom {dataset.source.phantom.kind} {root}"
        )
    files, findings = _listed(dataset, root, further)
    jobs = [dask.delayed(case_facts)(one, dataset) for one in files]
    read = dask.compute(*jobs, scheduler="threads", num_workers=resources.threads)
    cases = [facts for facts, _ in read]
    findings += [one for _, found in read for one in found]
    usable = Check(layout.dataset, cases, findings).usable
    findings += _split_faults(dataset, files, seed)
    findings += spacing_doubts([(one.case, one.spacing) for one in usable if one.spacing])
    findings += twin_doubts([(one.case, one.voxel_digest) for one in usable if one.voxel_digest])
    disk = disk_needed(dataset, usable) if usable else {}
    memory = memory_needed(dataset, usable, resources) if usable else {}
    free = shutil.disk_usage(nearest_there(layout.root)).free
    findings += disk_doubts(sum(disk.values()), free)
    findings.sort(key=lambda one: SEVERITIES.index(one.severity))
    found = Check(layout.dataset, cases, findings, disk, memory, free)
    write_check(layout, found)
    return found


def _split_faults(dataset: Dataset, files: Sequence[CaseFiles], seed: int) -> list[Finding]:
    if not files:  # there are worse faults
        return []
    try:
        check_split(dataset, files, seed)
        check_units(dataset, files)
    except PipelineError as error:
        return list(error.findings)
    return []


def _listed(
    dataset: Dataset, root: Path, further: Sequence[Path]
) -> tuple[list[CaseFiles], list[Finding]]:
    """The cases, and what is wrong with their listing or was left out of it."""
    adapter = dataset.source.adapter
    try:
        files, findings = list_cases(adapter, root, further), []
    except ListingError as error:
        files, findings = error.cases, list(error.findings)
    except PipelineError as error:
        return [], list(error.findings)
    unlabelled = sum(one.label is None and one.role == "unlabelled" for one in files)
    if unlabelled:
        told = f"{unlabelled} of {len(files)} cases without reference: predicted, not scored"
        findings.append(Finding(told, severity="note"))
    return files, [*findings, *left_out(adapter, root)]
