"""The report's figures of scores: Dice by group of patients, and agreement of calcium scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grcsf.agreement import limits_of_agreement
from pipeline.evaluation.colours import ON_WHITE, colours_of
from pipeline.evaluation.pictures import DPI, LETTER, LINE, as_png, legend_shape

SCORES = {
    "Agatston score": ("agatston_reference", "agatston_prediction"),
    "Calcium volume, mm³": ("calcium_volume_reference_mm3", "calcium_volume_prediction_mm3"),
}
LEAST_SHOWN = 1e-3  # of the highest score: smaller differences are drawn as 0
HEIGHT, NAME_LINE = 2.8, 0.14  # inches of a figure of groups; of a further line of their names
FEWEST_LETTERS = 5  # of a group's name in a line
SPREAD = 0.16  # of a category's width that one experiment's dots take


def group_picture(values: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """PNG of Dice by group of patients: a dot each, a line at the mean.

    `values`: group → experiment → a value for each patient; NaN is not drawn.
    """
    experiments = list(next(iter(values.values())))
    colours = colours_of(experiments, ON_WHITE)
    width = min(max(4.0, 1.1 * len(values) + 0.25 * len(values) * len(experiments)), 13.0)
    names = _broken(list(values), width)
    height = HEIGHT + NAME_LINE * max(name.count("\n") for name in names)
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    for place, by_experiment in enumerate(values.values()):
        for index, (name, dice) in enumerate(by_experiment.items()):
            defined = np.array([value for value in dice if not np.isnan(value)])
            if not defined.size:
                continue
            middle = place + (index - (len(experiments) - 1) / 2) * 0.8 / len(experiments)
            # spread evenly in order, so that the picture is the same each time
            aside = np.linspace(-SPREAD, SPREAD, defined.size) if defined.size > 1 else [0.0]
            across = middle + np.array(aside) / len(experiments)
            panel.plot(across, np.sort(defined), "o", color=colours[name], markersize=3, alpha=0.6)
            reach = 0.3 / len(experiments)
            ends = middle - reach, middle + reach
            panel.hlines(defined.mean(), *ends, color=colours[name], linewidth=2)
    # a group's name may have dollars, which are no formula
    panel.set_xticks(range(len(values)), names, fontsize=8, parse_math=False)
    panel.set_xlim(-0.6, len(values) - 0.4)
    panel.set_ylim(-0.03, 1.03)
    panel.set_ylabel("Dice", fontsize=8)
    _finish(figure, [panel], experiments)
    return as_png(figure)


def _broken(names: Sequence[str], width: float) -> list[str]:
    """Names of groups in as many lines as it takes side by side in a width in inches."""
    letters = max(FEWEST_LETTERS, int((width - 1) / len(names) / LETTER) - 1)
    return [textwrap.fill(name, letters) for name in names]


def agreement_picture(scores: Mapping[str, pd.DataFrame]) -> bytes:
    """PNG of calcium scores: prediction against reference, and Bland and Altman's differences.

    `scores`: experiment → a row for each patient.
    """
    colours = colours_of(list(scores), ON_WHITE)
    figure = Figure(figsize=(8.6, 6.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(2, 2)
    for (title, (reference_column, predicted_column)), (scatter, differences) in zip(
        SCORES.items(), panels, strict=True
    ):
        highest = 1.0
        for name, rows in scores.items():
            reference = rows[reference_column].to_numpy(float)
            predicted = rows[predicted_column].to_numpy(float)
            highest = max(highest, reference.max(initial=0), predicted.max(initial=0))
            look: dict[str, Any] = {"color": colours[name], "markersize": 4}
            scatter.plot(reference, predicted, "o", alpha=0.7, **look)
            mean, difference = (reference + predicted) / 2, predicted - reference
            differences.plot(mean, difference, "o", alpha=0.7, **look)
            limits = limits_of_agreement(predicted.tolist(), reference.tolist())
            for level, style in zip(limits, ("-", "--", "--"), strict=True):
                if not np.isnan(level):
                    differences.axhline(level, color=look["color"], linestyle=style, linewidth=1)
        scatter.plot([0, highest], [0, highest], color="#999999", linewidth=0.8, zorder=0)
        scatter.set_xlabel(f"{title}: reference", fontsize=8)
        scatter.set_ylabel("prediction", fontsize=8)
        differences.axhline(0, color="#999999", linewidth=0.8, zorder=0)
        low, high = differences.get_ylim()
        # where all agree, the rounding of sums would fill the panel
        least = LEAST_SHOWN * highest
        differences.set_ylim(min(low, -least), max(high, least))
        differences.set_xlabel(f"{title}: mean of both", fontsize=8)
        differences.set_ylabel("prediction − reference", fontsize=8)
    _finish(figure, panels.ravel(), list(scores))
    return as_png(figure)


def _finish(figure: Figure, panels: Sequence[Any], experiments: Sequence[str]) -> None:
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=name)
        for name, colour in colours_of(experiments, ON_WHITE).items()
    ]
    width, height = figure.get_size_inches()
    columns, lines = legend_shape(experiments, width)
    figure.set_size_inches(width, height + LINE * (lines - 1))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, fontsize=8, frameon=False
    )
