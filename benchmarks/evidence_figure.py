"""The figure of the evidence: Dice against the number of labelled cases, readable at 9 cm width."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pipeline.evaluation.colours import ON_WHITE

WIDTH_CM, HEIGHT_CM = 9.0, 7.5
CM_PER_INCH = 2.54
MARKERS = "osD^vPX"  # told apart without any colour, too
SHIFT = 0.055  # of a method's points against the next one's, as a share of their place
BESIDE = 0.4  # of that shift: repeats stand beside the bar of their mean, where they can be seen
LOOK = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "evidence",  # the same figure has the same bytes
}


class Point(NamedTuple):
    """A method on one number of labelled cases."""

    training: int
    validation: int
    mean: float
    low: float | None  # of the interval over patients
    high: float | None
    repeats: Sequence[float]  # each repeat's own mean; none of a single training


class Line(NamedTuple):
    """A method."""

    title: str
    points: Sequence[Point]


def write_figure(lines: Sequence[Line], paths: Sequence[Path]) -> None:
    """Draw curves, or dots where all methods have one number of labelled cases; a file each."""
    sizes = {point.training + point.validation for line in lines for point in line.points}
    with mpl.rc_context(LOOK):
        height = HEIGHT_CM if len(sizes) > 1 else 1.6 + 1.1 * len(lines)
        figure = Figure(
            figsize=(WIDTH_CM / CM_PER_INCH, height / CM_PER_INCH), layout="constrained"
        )
        panel = figure.subplots()
        if len(sizes) > 1:
            draw_curves(panel, lines)
            figure.legend(loc="outside upper left", ncols=2, frameon=False, handlelength=1.6)
        else:
            draw_dots(panel, lines)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=300, facecolor="white", metadata=metadata)


def draw_curves(panel: Any, lines: Sequence[Line]) -> None:
    """Dice against the number of labelled cases, a line for each method."""
    ticks: dict[int, str] = {}
    for index, line in enumerate(lines):
        aside = 1 + SHIFT * (index - (len(lines) - 1) / 2)
        places = [(point.training + point.validation) * aside for point in line.points]
        means, bars = means_and_bars(line)
        style = look(index)
        panel.errorbar(places, means, yerr=bars, linewidth=1.1, label=line.title, **style)
        for place, point in zip(places, line.points, strict=True):
            at = [place * (1 + SHIFT * BESIDE)] * len(point.repeats)
            panel.plot(at, point.repeats, ".", color=style["color"], markersize=2.5)
            cases = point.training + point.validation
            ticks[cases] = f"{cases}\n{point.training} + {point.validation}"
    panel.set_xscale("log")
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("Labelled cases (training + validation)")
    panel.set_ylabel("Dice")


def draw_dots(panel: Any, lines: Sequence[Line]) -> None:
    """Dice of each method at the one number of labelled cases, a row for each."""
    for index, line in enumerate(lines):
        means, bars = means_and_bars(line)
        style = look(index)
        panel.errorbar(means, [index] * len(means), xerr=bars, linestyle="", **style)
        for point in line.points:
            at = [index + BESIDE / 2] * len(point.repeats)
            panel.plot(point.repeats, at, ".", color=style["color"], markersize=2.5)
    panel.set_yticks(range(len(lines)), [line.title for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_xlabel("Dice")


def means_and_bars(line: Line) -> tuple[list[float], list[list[float]]]:
    """Means, and how far the interval reaches below and above them; 0 where it is undefined."""
    means = [point.mean for point in line.points]
    below = [0.0 if point.low is None else point.mean - point.low for point in line.points]
    above = [0.0 if point.high is None else point.high - point.mean for point in line.points]
    return means, [below, above]


def look(index: int) -> dict[str, Any]:
    """Colour and marker of a method."""
    return {
        "color": ON_WHITE[index % len(ON_WHITE)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "elinewidth": 0.8,
    }
