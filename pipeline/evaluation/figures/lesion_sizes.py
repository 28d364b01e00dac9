"""Dice by lesion size, for every method (Fig. 9): a dot a patient, boxes of quartiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.evaluation.colours import ON_WHITE, colours_of
from pipeline.evaluation.figures.journal import (
    DOUBLE_MM,
    legend_below,
    legend_shape,
    panel_at,
    sheet,
)
from pipeline.evaluation.report_parts import dice_by_size
from pipeline.evaluation.score_files import read_scores
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout

TITLE = "Dice by lesion size"
HEIGHT_MM = 62.0  # without the legend
FEWEST_OF_A_BOX = 5  # patients; quartiles of fewer say nothing
GROUP = 0.84  # of the distance between two groups that the methods of one take
MARKERS = "osD^v"  # where there are more methods than colours


def lesion_size_figure(layout: Layout, dataset: Dataset, seed: int) -> tuple[Figure, list[str]]:
    """The drawing and its caption; `seed` changes nothing.

    Raises:
        PipelineError: the scores of an experiment are missing or damaged.
    """
    del seed
    names, subsets = list(dataset.experiments), dataset.shared_subsets
    scores = {name: read_scores(layout, name, subsets) for name in names}
    groups = {f"{size} voxels": dice for size, dice in dice_by_size(scores).items()}
    voxels = next(iter(scores.values()))["reference_voxels"]
    with_lesion = voxels.index[voxels > 0]
    groups["all"] = {name: rows["dice"].loc[with_lesion].tolist() for name, rows in scores.items()}
    figure = sheet(DOUBLE_MM, HEIGHT_MM + legend_shape(names, DOUBLE_MM)[1])
    axes = panel_at(figure, 12, 2, DOUBLE_MM - 14, HEIGHT_MM - 12)
    for place, dice in enumerate(groups.values()):
        _draw_group(axes, place, dice)
    counts = [len(next(iter(dice.values()))) for dice in groups.values()]
    ticks = [f"{title}\n(n = {count})" for title, count in zip(groups, counts, strict=True)]
    axes.set_xticks(range(len(groups)), ticks)
    axes.set_yticks(np.linspace(0, 1, 6))  # none beyond the panel
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylim=(-0.03, 1.03), ylabel="Dice")
    for border in range(1, len(groups)):
        axes.axvline(border - 0.5, color="#cccccc", linewidth=0.4)
    handles = [Line2D([], [], linestyle="", label=name, **_dot(names, name)) for name in names]
    legend_below(figure, handles)
    return figure, _caption(dataset)


def _dot(names: Sequence[str], name: str) -> dict[str, Any]:
    colour = colours_of(names, ON_WHITE)[name]
    marker = MARKERS[names.index(name) // len(ON_WHITE) % len(MARKERS)]
    return {"marker": marker, "color": colour, "markersize": 3, "markeredgewidth": 0}


def _draw_group(axes: Axes, place: int, dice: dict[str, list[float]]) -> None:
    names, width = list(dice), GROUP / len(dice)
    for index, name in enumerate(names):
        values = np.sort([value for value in dice[name] if not math.isnan(value)])
        if not values.size:
            continue
        middle, dot = place + (index - (len(names) - 1) / 2) * width, _dot(names, name)
        # spread evenly in order, so that the figure is the same each time
        aside = np.linspace(-0.25, 0.25, values.size) * width if values.size > 1 else [0.0]
        small = dot | {"markersize": 2}
        axes.plot(middle + np.array(aside), values, linestyle="", alpha=0.45, **small)
        ends = (middle - 0.36 * width, middle + 0.36 * width)
        axes.hlines(values.mean(), *ends, color=dot["color"], linewidth=1.4)
        if values.size >= FEWEST_OF_A_BOX:
            low, high = np.quantile(values, (0.25, 0.75))
            box: dict[str, Any] = {"edgecolor": dot["color"], "facecolor": "none", "linewidth": 0.6}
            axes.bar(middle, high - low, 0.72 * width, low, **box)


def _caption(dataset: Dataset) -> list[str]:
    numbers = dataset.shared_subsets
    part = ("fold" if dataset.split.folds else "subset") + "s" * (len(numbers) > 1)
    listed = ", ".join(map(str, numbers))
    return [
        "Dice of every method by lesion size, as in the paper's Fig. 9: voxels of the reference, "
        f"of the test patients of {part} {listed} whose reference is not empty. Dots are "
        "patients (means over repeats where there are several), thick lines means, boxes the "
        f"quartiles of groups of at least {FEWEST_OF_A_BOX}."
    ]
