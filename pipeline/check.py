"""`grcsf check`: all that is wrong with a data set, and what it is like, before any stage runs.

Every case is read once, whole, a few at a time; the checks are ingest's own. What is found lies in
`results/<dataset>/check/`: `check.json`, and `check.html` to read and to pass on.
"""

from __future__ import annotations

import base64
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import jinja2
import numpy as np

from pipeline.case_facts import CaseFacts, case_facts
from pipeline.datasets import list_cases
from pipeline.errors import PipelineError
from pipeline.grid_picture import grid_picture
from pipeline.layout import Layout
from pipeline.needs import disk_needed, memory_needed
from pipeline.settings import Dataset, Resources
from pipeline.stores import replacing, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know: an `error` keeps its case from being used."""

    severity: str
    case: str
    text: str


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        dataset: its name.
        cases: all that were read.
        findings: errors first.
        disk: bytes by kind of result.
        memory: bytes at the peak, by training.
        free: bytes free where the results will lie.
    """

    dataset: str
    cases: list[CaseFacts]
    findings: list[Finding]
    disk: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    free: int = 0

    @property
    def errors(self) -> int:
        """How many findings keep a case from being used."""
        return sum(one.severity == "error" for one in self.findings)


def check(
    layout: Layout, dataset: Dataset, root: Path, further: Sequence[Path], resources: Resources
) -> Check:
    """Read every case, write what was found, and return it.

    A listing that is faulty as a whole (no case, a case twice, a label without image) is a finding,
    too; no case is read then.

    Raises:
        PipelineError: the phantoms that the configuration asks for are not written yet.
    """
    if dataset.source.phantom and not root.is_dir():
        raise PipelineError(
            f"{root}: the phantoms are not written yet; run snakemake with this configuration, or "
            f"grcsf phantom {dataset.source.phantom.kind} {root}"
        )
    try:
        files = list_cases(dataset.source.adapter, root, further)
    except PipelineError as error:
        unlisted = [Finding("error", "", line) for line in str(error).splitlines()]
        found = Check(layout.dataset, [], unlisted)
        _write(layout, found)
        return found
    jobs = [dask.delayed(case_facts)(one, dataset.source, dataset.slices) for one in files]
    cases = list(dask.compute(*jobs, scheduler="threads", num_workers=resources.threads))
    findings = [
        *(Finding("error", one.case, line) for one in cases for line in one.faults),
        *(Finding("note", one.case, line) for one in cases for line in one.notes),
    ]
    usable = [one for one in cases if not one.faults]
    found = Check(
        layout.dataset,
        cases,
        findings,
        disk_needed(dataset, usable) if usable else {},
        memory_needed(dataset, usable, resources) if usable else {},
        shutil.disk_usage(_existing(layout.root)).free,
    )
    _write(layout, found)
    return found


def summary(found: Check) -> list[tuple[str, str]]:
    """The data set in a few lines: (what, how much); ranges are smallest, median, largest."""
    usable = [one for one in found.cases if not one.faults]
    labelled = [one for one in usable if one.labelled]
    groups = Counter(one.group for one in usable if one.group)
    lines = [
        ("cases", f"{len(found.cases)}, of which {len(usable)} can be used"),
        ("with reference", f"{len(labelled)}, {_lesion_free(labelled)} of them without lesion"),
    ]
    if groups:
        listed = ", ".join(f"{name} {count}" for name, count in groups.most_common(12))
        more = f" and {len(groups) - 12} more" if len(groups) > 12 else ""
        lines.append(("groups", f"{len(groups)}: {listed}{more}"))
    for axis, name in enumerate("zyx"):
        lines.append((f"voxels in {name}", _range(one.shape[axis] for one in usable if one.shape)))
        spacings = [one.spacing[axis] for one in usable if one.spacing]
        lines.append((f"spacing in {name}, mm", _range(spacings)))
    lines += [
        (f"intensity, {name}", _range(one.quantiles[name] for one in usable if one.quantiles))
        for name in ("low", "median", "high")
    ]
    lesioned = [one for one in labelled if one.lesions]
    lines += [
        ("empty slices a case", _range(one.empty_slices for one in usable)),
        ("slices with lesion a case", _range(one.lesion_slices for one in lesioned)),
        ("lesions a case", _range(one.lesions for one in lesioned)),
        ("lesion voxels a case", _range(one.lesion_voxels for one in lesioned)),
        ("lesion ml a case", _range(one.lesion_ml for one in lesioned)),
    ]
    return lines


def needs(found: Check) -> list[tuple[str, str]]:
    """What the run will need: (what, how much)."""
    disk = [(f"disk, {name}", _size(size)) for name, size in found.disk.items()]
    total = f"{_size(sum(found.disk.values()))}; {_size(found.free)} are free"
    memory = [(f"memory, {name}", _size(size)) for name, size in found.memory.items()]
    return [*disk, ("disk, together", total), *memory] if found.disk else []


def _size(count: int) -> str:
    return f"{count / 1e9:,.3g} GB" if count >= 1e9 else f"{count / 1e6:,.3g} MB"


def _lesion_free(cases: Iterable[CaseFacts]) -> int:
    return sum(one.lesions == 0 for one in cases)


def _range(values: Iterable[float | int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, middle, high = min(known), float(np.median(known)), max(known)
    return f"{low:.4g}" if low == high else f"{low:.4g} – {middle:.4g} – {high:.4g}"


def _existing(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _write(layout: Layout, found: Check) -> None:
    content: dict[str, Any] = {
        "dataset": found.dataset,
        "findings": [vars(one) for one in found.findings],
        "summary": summary(found),
        "disk_bytes": found.disk,
        "memory_bytes": found.memory,
        "free_bytes": found.free,
        "cases": [one.as_json() for one in found.cases],
        "outputs": [],
    }
    write_json(layout.check(".json"), content)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    pictures = [
        (one.case, base64.b64encode(grid_picture(*one.grids)).decode("ascii"))
        for one in found.cases
        if one.grids is not None
    ]
    page = environment.get_template("check.html.j2").render(
        found=found, summary=summary(found), needs=needs(found), pictures=pictures
    )
    with replacing(layout.check(".html")) as temporary:
        temporary.write_text(page, "utf-8")
    log.info("check: %s", layout.check(".html"))
