"""The epochs of a training, which it writes beside its checkpoints."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.settings import Dataset
from pipeline.storage.layout import Layout, folder_of

History = list[dict[str, float]]


def read_history(path: Path) -> History:
    """The rows of a `history.csv` as numbers; empty if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        # a killed training may leave half a row
        whole = [row for row in rows if None not in row.values() and "" not in row.values()]
        return [{key: float(value) for key, value in row.items()} for row in whole]


def training_histories(
    layout: Layout, dataset: Dataset
) -> tuple[dict[str, dict[str, History]], list[str]]:
    """Histories by title and run, and a line for each training that has none."""
    missing = {f"MAE {name}": "not trained here, used as its checkpoint is" for name in dataset.mae}
    missing |= dict.fromkeys(dataset.experiments, "no training history is left")
    runs = [(f"MAE {name}", "", layout.mae(name)) for name in dataset.mae]
    for name in dataset.experiments:
        runs += [(name, f"subset {n}", layout.model(name, n)) for n in dataset.subsets_of(name)]
    histories: dict[str, dict[str, History]] = {}
    for title, run, manifest in runs:
        if rows := read_history(folder_of(manifest) / "history.csv"):
            histories.setdefault(title, {})[run] = rows
    notes = [f"{title}: {why}." for title, why in missing.items() if title not in histories]
    return histories, notes
