"""A plan for a terminal, as Markdown, and as records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.plan import DatasetPlan, StagePlan
from pipeline.rates import Rates
from pipeline.store_sizes import size_text
from pipeline.text_table import aligned


def table(plans: Sequence[DatasetPlan], rates: Rates, gpus: int) -> str:
    """A table for each data set, and what its figures rest on."""
    unit = "GPU hours" if gpus else "core hours"
    parts = []
    for one in plans:
        rows = [["stage", "jobs", unit, "disk"]]
        rows += [_cells(name, stage) for name, stage in one.stages.items()]
        rows.append(_cells("together", one.total))
        parts += [f"{one.dataset}: {_sizes(one)}", "", aligned(rows), ""]
    if len(plans) > 1:
        totals = [one.total for one in plans]
        jobs, hours = sum(one.jobs for one in totals), sum(one.hours or 0 for one in totals)
        disk = size_text(sum(one.size or 0 for one in totals))
        parts += [f"all data sets: {jobs} jobs, {_hours(hours)} {unit}, {disk}", ""]
    return "\n".join([*parts, *_basis(rates)])


def records(plans: Sequence[DatasetPlan], rates: Rates, gpus: int) -> str:
    """The same as JSON: hours as they come out, sizes in bytes; null where nothing is estimated."""
    content = {
        "device": "cuda" if gpus else "cpu",
        "rates": asdict(rates),
        "datasets": [{**asdict(one), "total": asdict(one.total)} for one in plans],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _sizes(one: DatasetPlan) -> str:
    counts = f"{one.cases} cases, {one.labelled} with reference, {one.slices:,} slices"
    if one.assumed is None:
        return counts
    voxels = " × ".join(map(str, one.assumed))
    return f"{counts}; {one.cases - one.known} headers not readable, {voxels} voxels assumed"


def _cells(name: str, stage: StagePlan) -> list[str]:
    hours = "–" if stage.hours is None else _hours(stage.hours)
    return [name, str(stage.jobs), hours, "–" if stage.size is None else size_text(stage.size)]


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _basis(rates: Rates) -> list[str]:
    """What the hours are: counted work over measured rates, and which of these are not measured."""
    lines = [
        "An estimate. Hours are at most: all epochs, every slice, empty or not. They are counted",
        "multiplications over the rate of one device; reading, and stages with –, come on top.",
        f"Rates of: {rates.machine} ({rates.origin}).",
    ]
    for kind, rate in rates.per_second.items():
        other = rates.derived.get(kind)
        how = f"not measured: derived, the rate of {other}" if other else "measured"
        lines.append(f"  {kind}: {rate / 1e9:,.4g} G MACs/s, {how}")
    return lines
