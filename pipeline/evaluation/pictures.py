"""Pictures drawn off screen: a predicted case, and the report's training curves."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.case_view import CaseView
from pipeline.evaluation.colours import BRIGHTER, DARKER, GROUND, REFERENCE, SIGNED
from pipeline.storage.masks import Mask

DPI = 110
HEIGHT = 2.25  # inches of a panel
LINE = 0.25  # inches of a title, and of a line of the legend
SAMPLE, LETTER = 0.5, 0.065  # inches of a line's sample in the legend, and of a letter
WIDEST = 8 * HEIGHT  # inches of all panels together: panels of long planes are lower
CLOSE_UP_MM = 40.0  # shortest side of the close-up
FINER = 5  # points of a contour along a pixel
BODY = 0.08  # intensity in [0, 1] above which a pixel is no air
Window = tuple[float, float, float, float]  # mm: left, right, top, bottom
History = Sequence[Mapping[str, float]]


def case_picture(view: CaseView, colours: Mapping[str, str]) -> bytes:
    """A PNG: slice, residual maps, and the largest lesion's close-up without and with contours.

    `colours`: experiment → that of its contour, also of experiments that the case lacks.
    """
    height, width = view.image.shape
    extent = (0.0, width * view.pixel_mm[1], height * view.pixel_mm[0], 0.0)
    body = body_window(view.image, view.pixel_mm)
    near = close_up(view.target, view.pixel_mm) if view.target.any() else body
    panels = [body] * (1 + len(view.residuals)) + [near, near]
    widths = [HEIGHT * (right - left) / (bottom - top) for left, right, top, bottom in panels]
    shrink = min(1.0, WIDEST / sum(widths))
    size = (shrink * sum(widths) + 0.06 * (len(panels) - 1), shrink * HEIGHT + 2 * LINE)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    grid: dict[str, Any] = {"width_ratios": widths, "wspace": 0.03}
    margins: dict[str, Any] = {"left": 0, "right": 1, "bottom": LINE / size[1]}
    axes = figure.subplots(
        1, len(panels), gridspec_kw={**grid, **margins, "top": 1 - LINE / size[1]}
    )
    _show(axes[0], view.image, extent, body, "Image")
    draw_edges(axes[0], view.edges, body)
    if view.target.any():
        corner, sides = (near[0], near[2]), (near[1] - near[0], near[3] - near[2])
        axes[0].add_patch(Rectangle(corner, *sides, fill=False, edgecolor="white", linewidth=0.8))
    style = map_style(view.residuals, signed=view.signed) | {"interpolation": "bilinear"}
    for panel, (title, residual) in zip(axes[1:-2], view.residuals.items(), strict=True):
        _show(panel, residual, extent, body, title, **style)
        if view.reference is not None:
            draw_contour(panel, view.reference, view.pixel_mm, REFERENCE, 0.8)
    _show(axes[-2], view.image, extent, near, "Close-up" if view.target.any() else "Image")
    title = "Predictions" if view.reference is None else "Reference and predictions"
    _show(axes[-1], view.image, extent, near, title)
    legend: list[Artist] = [*_outlines(axes[-1], view, colours)]
    if view.signed and view.residuals:
        told = ((DARKER, "darker than foreseen"), (BRIGHTER, "brighter than foreseen"))
        legend += [Patch(color=colour, label=label) for colour, label in told]
    if legend:  # a case without reference may have no prediction either
        _add_legend(figure, legend)
    return as_png(figure)


def _add_legend(figure: Figure, entries: Sequence[Artist]) -> None:
    """A legend below the panels; the figure grows by the lines that the longest label needs."""
    width, height = figure.get_size_inches()
    columns, lines = legend_shape([str(entry.get_label()) for entry in entries], width)
    grown = height + LINE * (lines - 1)
    figure.set_size_inches(width, grown)
    figure.subplots_adjust(bottom=LINE * lines / grown, top=1 - LINE / grown)
    place: dict[str, Any] = {"loc": "lower center", "ncol": columns, "borderaxespad": 0.1}
    # dark, as the colours of the lines are bright and one of them is white
    look: dict[str, Any] = {"facecolor": GROUND, "edgecolor": "none", "framealpha": 1}
    figure.legend(handles=list(entries), **place, **look, labelcolor="white", fontsize=7.5)


def legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """The columns and lines of a legend that fits into a width in inches."""
    columns = min(len(labels), max(1, int(width / (SAMPLE + LETTER * max(map(len, labels))))))
    return columns, math.ceil(len(labels) / columns)


def map_style(residuals: Mapping[str, npt.NDArray[Any]], *, signed: bool) -> dict[str, Any]:
    """Colours of residual maps, the same for all of a slice; grey is 0 of signed ones.

    They end at the value furthest from 0, but for outliers.
    """
    ends = (float(np.quantile(np.abs(plane), 0.998)) for plane in residuals.values())
    end = max(ends, default=0) or 1.0
    return {"cmap": SIGNED if signed else "magma", "vmin": -end if signed else 0, "vmax": end}


def body_window(image: npt.NDArray[Any], pixel_mm: tuple[float, float]) -> Window:
    """The part of a slice (rows, columns; in [0, 1]) without the air around it, in mm."""
    inside = image > BODY
    limits = []
    for axis, size in ((0, pixel_mm[1]), (1, pixel_mm[0])):
        # a line of the table or a noisy pixel is no body
        busy = np.flatnonzero(inside.mean(axis=axis) > 0.03)
        length = inside.shape[1 - axis]
        margin = 0.03 * length
        first, last = (busy[0], busy[-1] + 1) if busy.size else (0, length)
        limits += [max(0, first - margin) * size, min(length, last + margin) * size]
    left, right, top, bottom = (float(limit) for limit in limits)
    return left, right, top, bottom


def close_up(target: npt.NDArray[np.bool_], pixel_mm: tuple[float, float]) -> Window:
    """A square around the marked pixels, about twice as wide, inside the slice; in mm."""
    field = [length * size for length, size in zip(target.shape, pixel_mm, strict=True)]
    boxes = []
    for axis in (0, 1):
        marked = np.flatnonzero(target.any(axis=1 - axis))
        boxes.append((marked[0] * pixel_mm[axis], (marked[-1] + 1) * pixel_mm[axis]))
    longest = max(last - first for first, last in boxes)
    side = min(max(2.2 * longest, CLOSE_UP_MM), *field)
    starts = [
        float(np.clip((first + last) / 2 - side / 2, 0, whole - side))
        for (first, last), whole in zip(boxes, field, strict=True)
    ]
    return starts[1], starts[1] + side, starts[0], starts[0] + side


def curves_picture(histories: Mapping[str, Mapping[str, History]]) -> bytes:
    """A PNG with a panel per training: loss by epoch, a colour per subset.

    `histories`: title → name of a run (subset) → its rows.
    """
    columns = min(3, len(histories))
    rows = math.ceil(len(histories) / columns)
    figure = Figure(figsize=(3.5 * columns, 2.4 * rows), dpi=DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel, (title, runs) in zip(axes, histories.items(), strict=False):
        for index, (name, history) in enumerate(runs.items()):
            _curve(panel, name if len(runs) > 1 else "", history, f"C{index}")
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_xlabel("epoch", fontsize=8)
        panel.set_ylabel("loss", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=7, frameon=False)
    for panel in axes[len(histories) :]:
        panel.remove()
    return as_png(figure)


def _curve(panel: Any, name: str, history: History, colour: str) -> None:
    epochs = [row["epoch"] + 1 for row in history]
    suffix = f", {name}" if name else ""
    losses = [row["validation_loss"] for row in history]
    training = [row["train_loss"] for row in history]
    panel.plot(epochs, training, "--", color=colour, linewidth=1, label=f"training{suffix}")
    panel.plot(epochs, losses, color=colour, linewidth=1.4, label=f"validation{suffix}")
    if np.isfinite(losses).any():
        best = int(np.nanargmin(losses))
        panel.plot(epochs[best], losses[best], "o", color=colour, markersize=4)


def _show(
    panel: Any, plane: npt.NDArray[Any], extent: Window, window: Window, title: str, **how: Any
) -> None:
    style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    panel.imshow(plane, extent=extent, **(style | how))
    panel.set_xlim(window[0], window[1])
    panel.set_ylim(window[3], window[2])
    panel.set_title(title, fontsize=7.5, pad=3)
    panel.set_axis_off()


def _outlines(panel: Any, view: CaseView, colours: Mapping[str, str]) -> list[Line2D]:
    """Draw the contours, thin ones over thick ones, so that equal contours all stay visible."""
    drawn = [] if view.reference is None else [("reference", view.reference, REFERENCE, 2.4)]
    drawn += [(name, mask, colours[name], 1.2) for name, mask in view.predictions.items()]
    handles = []
    for name, mask, colour, width in drawn:
        draw_contour(panel, mask, view.pixel_mm, colour, width)
        label = name if mask.any() else f"{name} (nothing here)"
        handles.append(Line2D([], [], color=colour, linewidth=width + 0.4, label=label))
    return handles


def draw_contour(
    panel: Any, mask: Mask, pixel_mm: tuple[float, float], colour: str, width: float
) -> None:
    """A line around the marked pixels of a plane that lies at (0, 0); nothing around none."""
    if not mask.any():
        return
    # around the marked pixels, with a rim that closes contours at the slice's edge; finer than
    # the pixels, so that the line follows their sides and does not cut their corners
    rows, columns = (np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1))
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    fine = box.repeat(FINER, axis=0).repeat(FINER, axis=1).astype(np.float32)
    down, right = (
        (first - 1 + (np.arange(length) + 0.5) / FINER) * size
        for first, length, size in zip((rows[0], columns[0]), fine.shape, pixel_mm, strict=True)
    )
    panel.contour(right, down, fine, levels=[0.5], colors=[colour], linewidths=[width])


def draw_edges(
    panel: Any, edges: tuple[str, str, str, str], window: Window, points: float = 8
) -> None:
    """Letters of the patient's sides along the edges of a panel, `points` high."""
    left, right, top, bottom = window
    middle, centre = (top + bottom) / 2, (left + right) / 2
    gap_x, gap_y = 0.03 * (right - left), 0.03 * (bottom - top)
    across = (left + gap_x, right - gap_x, centre, centre)
    down = (middle, middle, top + gap_y, bottom - gap_y)
    for x, y, letter in zip(across, down, edges, strict=True):
        text = panel.text(x, y, letter, color="white", fontsize=points, ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=1.2, foreground="#000000")])


def as_png(figure: Figure) -> bytes:
    """A figure's PNG on white."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white", pil_kwargs={"optimize": True})
    return content.getvalue()
