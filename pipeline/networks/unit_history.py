"""What the compensation units of a network did in the epochs of its training."""

from __future__ import annotations

import math
import re

from pipeline.networks.history import History

NOTHING = 0.01
"""A unit that moves its features by less than this share of their norm does nothing."""
UNIT = re.compile(r"(gcu|rcu)_([0-3])")
SCALES = ("full scale", "1/2", "1/4", "1/8")


def contributions(history: History) -> dict[str, list[float]]:
    """The contribution of each unit, by its column (`gcu_0`), in the epochs that recorded it.

    It is ‖changed − given‖ / ‖given‖ of the features (`grcsf.contributions`).
    """
    columns = dict.fromkeys(name for row in history for name in row if UNIT.fullmatch(name))
    found = {
        name: [row[name] for row in history if math.isfinite(row.get(name, math.nan))]
        for name in columns
    }
    return {name: values for name, values in found.items() if values}


def last_factors(history: History, unit: str) -> dict[str, float]:
    """The learnt factors of a unit after the last epoch, by name: `W1` and so on, or `a`."""
    last = history[-1] if history else {}
    columns = [name for name in last if name.startswith(f"{unit}_")]
    return {column.removeprefix(f"{unit}_").replace("w", "W"): last[column] for column in columns}


def unit_title(unit: str) -> str:
    """`rcu_2` → `RCU at 1/4`."""
    kind, _, level = unit.partition("_")
    return f"{kind.upper()} at {SCALES[int(level)]}"


def idle_units(history: History) -> list[str]:
    """A line for each unit that stayed at nothing in every epoch."""
    return [
        f"the {unit_title(unit)} stayed at nothing: in {len(values)} epochs it changed its "
        f"features by {max(values):.2%} of their norm at most, under {NOTHING:.0%}"
        for unit, values in contributions(history).items()
        if max(values) < NOTHING
    ]
