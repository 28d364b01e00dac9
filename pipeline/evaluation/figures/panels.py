"""A slice in a panel of a figure: contours, error maps, residual maps and scale bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.case_view import CaseView
from pipeline.evaluation.colours import FALSE_NEGATIVE, FALSE_POSITIVE, HIT, PREDICTED, TRUTH
from pipeline.evaluation.figures.journal import EDGE, GAP, POINT_MM, panel_at, text_width_mm
from pipeline.evaluation.pictures import Window, body_window, close_up, draw_contour
from pipeline.storage.masks import Mask

LINE, RIM = 0.7, 1.5  # points of a contour, and of the reference's below a prediction's
DIMMED = 0.6  # of an image's brightness below an error map
LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100)  # of scale bars
BAR_MM, TICK, TICK_GAP = 1.8, 1.5, 1.0  # a colour bar's width; its ticks, their gap, in points
BAR_POINTS, DECIMALS = 6.0, 9  # of a colour bar's figures; decimals that rounding leaves right
# on a dark ground: matplotlib would write a text with a rim as paths
ON_PANEL: dict[str, Any] = {
    "color": "white",
    "fontsize": 6.0,
    "bbox": {"facecolor": "black", "edgecolor": "none", "alpha": 0.6, "pad": 0.6},
}
TRUTH_LINE = Line2D([], [], color=TRUTH, linewidth=1.2, label="reference")
PREDICTED_LINE = Line2D([], [], color=PREDICTED, linewidth=1.2, label="prediction")
ERRORS = tuple(
    Patch(facecolor=colour, edgecolor="none", label=label)
    for colour, label in (
        (FALSE_POSITIVE, "false positive"),
        (FALSE_NEGATIVE, "false negative"),
        (HIT, "true positive"),
    )
)


def error_map(
    image: npt.NDArray[np.float32], prediction: Mask, reference: Mask
) -> npt.NDArray[np.float64]:
    """Errors over the dimmed image: red false positives, green false negatives, light hits.

    All are (rows, columns), the image in [0, 1]; the result is (rows, columns, 3) in [0, 1].
    """
    shown = np.repeat(DIMMED * np.clip(image, 0, 1)[..., None].astype(float), 3, axis=2)
    shown[prediction & ~reference] = to_rgb(FALSE_POSITIVE)
    shown[reference & ~prediction] = to_rgb(FALSE_NEGATIVE)
    shown[reference & prediction] = to_rgb(HIT)
    return shown


def whole_window(view: CaseView) -> Window:
    """A square around the body, in mm; it may reach beyond the slice."""
    left, right, top, bottom = body_window(view.image, view.pixel_mm)
    half, across, down = max(right - left, bottom - top) / 2, (left + right) / 2, (top + bottom) / 2
    return across - half, across + half, down - half, down + half


def near_window(view: CaseView) -> Window:
    """A square around the lesion, in mm; the whole slice where nothing is marked."""
    return close_up(view.target, view.pixel_mm) if view.target.any() else whole_window(view)


def show(axes: Axes, view: CaseView, plane: npt.NDArray[Any], window: Window, **style: Any) -> None:
    """A plane of the slice's field (rows, columns), or its colours (rows, columns, 3)."""
    height, width = (n * mm for n, mm in zip(view.image.shape, view.pixel_mm, strict=True))
    how: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    axes.imshow(plane, extent=(0.0, width, height, 0.0), aspect="auto", **(how | style))
    axes.set(xlim=window[:2], ylim=(window[3], window[2]), xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)


def show_masks(
    axes: Axes, view: CaseView, window: Window, prediction: Mask | None, *, truth: bool = True
) -> None:
    """The slice with the contours of a prediction and of the reference, where there are any."""
    show(axes, view, view.image, window)
    if truth and view.reference is not None:
        # a thin line over a thick one, so that equal contours both stay visible
        width = LINE if prediction is None else RIM
        draw_contour(axes, view.reference, view.pixel_mm, TRUTH, width)
    if prediction is not None:
        draw_contour(axes, prediction, view.pixel_mm, PREDICTED, LINE)


def show_whole(axes: Axes, view: CaseView, near: Window | None = None) -> None:
    """The whole slice, with a frame around the part that other panels show."""
    window = whole_window(view)
    show(axes, view, view.image, window)
    if near is not None and view.target.any():
        sides = near[1] - near[0], near[3] - near[2]
        frame: dict[str, Any] = {"fill": False, "edgecolor": "white", "linewidth": 0.5}
        axes.add_patch(Rectangle((near[0], near[2]), *sides, **frame))
    scale_bar(axes, window)


def corner(axes: Axes, text: str) -> None:
    """A few words in a panel's upper left corner."""
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "left", "va": "top"}
    axes.text(0.04, 0.96, text, **(place | ON_PANEL))


def scale_bar(axes: Axes, window: Window) -> None:
    """A line of a round length, about a quarter of the panel, with its mm."""
    side = window[1] - window[0]
    length = max([mm for mm in LENGTHS_MM if mm <= 0.35 * side], default=LENGTHS_MM[0])
    left, low = window[0] + 0.05 * side, window[3] - 0.06 * side
    rim = [withStroke(linewidth=1.6, foreground="black")]
    line: dict[str, Any] = {"color": "white", "solid_capstyle": "butt", "path_effects": rim}
    axes.plot([left, left + length], [low, low], linewidth=0.9, **line)
    axes.text(left, low - 0.03 * side, f"{length} mm", ha="left", va="bottom", **ON_PANEL)


def bar_room(styles: Iterable[dict[str, Any]]) -> float:
    """The width in mm that colour bars of these styles take right of panels, figures and all."""
    labels = [label for style in styles for label in bar_figures(style).values()]
    figures = max(text_width_mm(label, BAR_POINTS) for label in labels)
    return 2 * GAP + BAR_MM + (TICK + TICK_GAP) * POINT_MM + figures + EDGE


def bar_figures(style: dict[str, Any]) -> dict[float, str]:
    """The values that a colour bar tells, each as it is written: all with as many decimals."""
    low, high = style["vmin"], style["vmax"]
    values = np.round(MaxNLocator(nbins=4).tick_values(low, high), DECIMALS)
    shown = [float(value) for value in values if low <= value <= high]
    digits = max(len(f"{value:.{DECIMALS}f}".rstrip("0").partition(".")[2]) for value in shown)
    return {value: f"{value:.{digits}f}".replace("-", "−") for value in shown}


def colour_bar(
    figure: Figure, left: float, top: float, height: float, style: dict[str, Any]
) -> None:
    """The scale of residual maps right of their panels, at a place in mm."""
    axes = panel_at(figure, left + 2 * GAP, top, BAR_MM, height)
    shown = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    figures = bar_figures(style)
    bar = figure.colorbar(shown, cax=axes)
    axes.spines["outline"].set_linewidth(0.4)
    bar.set_ticks(list(figures), labels=list(figures.values()))
    bar.ax.tick_params(labelsize=BAR_POINTS, length=TICK, width=0.4, pad=TICK_GAP)
