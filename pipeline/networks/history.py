"""The epochs of a training, which it writes beside its checkpoints, and its units in them."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.settings import Dataset, Untrained, configured
from pipeline.settings.instances import all_maes, shown
from pipeline.settings.paths import file_refusal
from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout

log = logging.getLogger(__name__)
NEEDED = {"epoch", "train_loss", "validation_loss"}
History = list[dict[str, float]]
NOTHING = 0.01
"""A unit that moves its features by less than this share of their norm does nothing."""
UNIT = re.compile(r"(gcu|rcu)_([0-3])")
SCALES = ("full scale", "1/2", "1/4", "1/8")


def read_history(path: Path) -> History:
    """The rows of a `history.csv` as numbers; empty if there is no file.

    It only remembers: a row that is none, as a killed training or a bad disk leaves, is left out.
    """
    if not os.path.lexists(path):
        return []
    if refusal := file_refusal(path):
        log.warning("%s: %s; the training's epochs are forgotten", path, refusal)
        return []
    lines = path.read_text("utf-8", errors="replace").replace("\0", "\ufffd").splitlines()
    header, *others = [line.split(",") for line in lines] or [[]]
    rows = [row for values in others if (row := _row(header, values))]
    if len(rows) < len(others) - 1 or (lines and not set(header) >= NEEDED):
        log.warning("%s: damaged, %d of %d rows are left", path, len(rows), len(others))
    return rows


def _row(header: Sequence[str], values: Sequence[str]) -> dict[str, float]:
    """A row of numbers by column; empty where it is none."""
    if not set(header) >= NEEDED or len(header) != len(values):
        return {}
    try:
        row = {key: float(value) for key, value in zip(header, values, strict=True)}
    except ValueError:
        return {}
    return row if row["epoch"].is_integer() else {}


def epochs_of(history: History) -> int:
    """How many epochs a training ran, also where rows of earlier ones are lost."""
    return int(max((row["epoch"] for row in history), default=-1)) + 1


def compare_losses(
    title: str, history: History, epochs: int, baselines: Mapping[str, float]
) -> dict[str, float]:
    """Tell how a training's last validation loss compares; what the model's record keeps of it.

    Empty where the last of its `epochs` is lost from the history.
    """
    if not history or epochs_of(history) != epochs:
        log.warning("%s: its history is lost, so what it has learnt is not known", title)
        return {}
    masked, average = history[-1]["validation_loss"], baselines["average_slice"]
    figures = f"{title}: masked loss {masked:.4f}; average slice {average:.4f}; "
    figures += f"patch's own mean {baselines['patch_mean']:.4f}"
    if masked < average:
        log.info("%s: %.0f %% below the average slice", figures, 100 * (1 - masked / average))
    else:
        log.warning(
            "%s: it has not learnt healthy tissue, expected a masked loss below the average "
            "slice's; train for more steps, with recipe: mae, or on more slices",
            figures,
        )
    return {"masked_loss": masked, **baselines}


def validation_losses(layout: Layout, dataset: Dataset) -> dict[str, dict[str, float]]:
    """What records of MAEs keep of their losses, by MAE; those trained before have none."""
    maes = {shown(name): layout.mae(name) for name in all_maes(dataset)}
    manifests = {name: manifest for name, manifest in maes.items() if manifest.exists()}
    records = {name: read_json(manifest) for name, manifest in manifests.items()}
    return {name: kept["validation"] for name, kept in records.items() if "validation" in kept}


def training_histories(
    layout: Layout, dataset: Dataset
) -> tuple[dict[str, dict[str, History]], list[str]]:
    """Histories by title and run, and a line for each training that has none."""
    missing = {f"MAE {name}": "not trained here, used as its checkpoint is" for name in dataset.mae}
    missing |= {
        name: f"{each.what}, nothing is trained"
        if isinstance(each, Untrained)
        else "no training history is left"
        for name, each in dataset.experiments.items()
    }
    part = "fold" if dataset.split.folds else "subset"
    runs = [
        (f"MAE {configured(name)}", shown(name).partition(", ")[2], layout.mae(name))
        for name in all_maes(dataset)
    ]
    for name in dataset.networks:
        runs += [(name, f"{part} {n}", layout.model(name, n)) for n in dataset.subsets_of(name)]
    histories: dict[str, dict[str, History]] = {}
    for title, run, manifest in runs:
        if rows := read_history(folder_of(manifest) / "history.csv"):
            histories.setdefault(title, {})[run] = rows
    notes = [f"{title}: {why}." for title, why in missing.items() if title not in histories]
    return histories, notes


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
