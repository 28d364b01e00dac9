"""Plans as Markdown for a terminal, and as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from textwrap import fill
from typing import Any

from pipeline.evaluation.tables import WIDTH, aligned
from pipeline.planning.rates import Rates
from pipeline.planning.sizes import size_text
from pipeline.tools.plan.plan import DatasetPlan, StagePlan, together

UNITS = {"cuda": "GPU hours", "cpu": "core hours"}


def table(plans: Sequence[DatasetPlan], rates: Mapping[str, Rates]) -> str:
    """A table for each data set, and what its figures rest on; a column of hours for each rate."""
    parts = []
    for plan in plans:
        rows = [["stage", "jobs", *(UNITS[device] for device in rates), "disk"]]
        rows += [_cells(name, stage, rates) for name, stage in plan.stages.items()]
        rows.append(_cells("together", plan.total, rates))
        told = [_wrapped(line) for line in (plan.folds, plan.left_out) if line]
        parts += [_wrapped(f"{plan.dataset}: {_sizes(plan)}"), *told, "", aligned(rows), ""]
    if len(plans) > 1:
        total = together([plan.total for plan in plans])
        hours = [f"{_hours(total.hours.get(device))} {UNITS[device]}" for device in rates]
        counts = ", ".join([f"{total.jobs} jobs", *hours, size_text(total.size or 0)])
        parts += [_wrapped(f"all data sets: {counts}"), ""]
    return "\n".join([*parts, *_basis(rates)])


def as_records(plans: Sequence[DatasetPlan], rates: Mapping[str, Rates]) -> str:
    """The plans as JSON: rates and hours by device, unrounded, and sizes in bytes.

    A stage without estimate has no hours, and null for its size.
    """
    content = {
        "rates": {device: asdict(rate) for device, rate in rates.items()},
        "datasets": [_record(plan) for plan in plans],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _record(plan: DatasetPlan) -> dict[str, Any]:
    content = {**asdict(plan), "total": asdict(plan.total)}
    untold = {key for key in ("folds", "left_out") if content[key] is None}
    return {key: content[key] for key in content if key not in untold}


def _sizes(plan: DatasetPlan) -> str:
    counts = f"{plan.cases} cases, {plan.labelled} with reference, {plan.slices:,} slices"
    if plan.assumed is None:
        return counts
    voxels = " × ".join(map(str, plan.assumed))
    unknown = plan.cases - plan.known
    headers = f"{unknown} header{'s' if unknown > 1 else ''}"
    return f"{counts}; {headers} not readable, {voxels} voxels assumed"


def _cells(name: str, stage: StagePlan, devices: Iterable[str]) -> list[str]:
    hours = [_hours(stage.hours.get(device)) for device in devices]
    return [name, str(stage.jobs), *hours, "–" if stage.size is None else size_text(stage.size)]


def _hours(hours: float | None) -> str:
    if hours is None:
        return "–"
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _basis(rates: Mapping[str, Rates]) -> list[str]:
    """What the hours rest on: each device's rates, and which of them are not measured."""
    if not rates:
        return [_wrapped("Disk is that of the stores. --hours adds hours, and trained networks.")]
    estimate = (
        "An estimate. Hours are at most: all epochs, every slice, empty or not. They are counted "
        "multiplications over the rate of one device; reading, and stages with –, come on top."
    )
    lines = [_wrapped(estimate)]
    for rate in rates.values():
        lines.append(_wrapped(f"Rates of: {rate.machine} ({rate.origin})."))
        for kind, macs in rate.per_second.items():
            other = rate.derived.get(kind)
            how = f"not measured: derived, the rate of {other}" if other else "measured"
            lines.append(_wrapped(f"  {kind}: {macs / 1e9:,.4g} G MACs/s, {how}"))
    return lines


def _wrapped(text: str) -> str:
    # a broken path or name cannot be copied
    whole: Any = {"break_long_words": False, "break_on_hyphens": False}
    return fill(text, WIDTH, subsequent_indent="    ", **whole)
