"""What the compensation units of the trained networks contribute, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.tables import TextTable
from pipeline.networks.history import History
from pipeline.networks.unit_history import contributions, idle_units, last_factors, unit_title


def unit_table(histories: Mapping[str, Mapping[str, History]]) -> TextTable | None:
    """A row for each unit of each training, and a note for each that stayed at nothing.

    `histories`: experiment → run (subset) → its rows. None if no training recorded units.
    """
    headings = ["Training", "Unit", "First epoch", "Highest", "Last epoch", "Factors at the end"]
    table = TextTable(headings, names=2)
    for title, runs in histories.items():
        for run, history in runs.items():
            training = ", ".join(filter(None, (title, run)))
            for unit, values in contributions(history).items():
                shares = (values[0], max(values), values[-1])
                factors = last_factors(history, unit).items()
                learnt = ", ".join(f"{name} {value:.3g}" for name, value in factors)
                cells = [*(f"{share:.1%}" for share in shares), learnt or "–"]
                table.rows.append([training, unit_title(unit), *cells])
            table.notes += [f"{training}: {line}." for line in idle_units(history)]
    return table if table.rows else None
