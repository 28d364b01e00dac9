"""The picture of `explain`: a row for each step, from masked inputs to attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.evaluation.colours import REFERENCE
from pipeline.evaluation.pictures import DPI, as_png, map_style
from pipeline.tools.explain.view import Plane, SliceView

PANEL = 1.55  # inches of a panel's height
NARROWEST = 0.8  # of a panel's height: its title needs room
MARGIN = 1.05  # inches left of the panels, for the rows' names
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1}
HIDDEN = GREY | {"cmap": colormaps["gray"].with_extremes(bad="#3f6fa8")}
SIGNED = {"cmap": "coolwarm", "vmin": -1, "vmax": 1}
LEVEL_NAMES = {0: "full scale", 1: "1/2", 2: "1/4", 3: "1/8"}


@dataclass(frozen=True)
class Panel:
    """One plane (rows, columns) with its title and colours."""

    title: str
    plane: npt.NDArray[Any]
    style: dict[str, Any]


def explain_picture(view: SliceView) -> bytes:
    """A PNG: slice, prediction and residual maps; each pass; R; importance and attention."""
    rows = [("", _first_row(view))]
    for part in view.passes:
        masked = [Panel(f"pass {k + 1}", plane, HIDDEN) for k, plane in enumerate(part.masked)]
        reconstructed = [Panel("", plane, GREY) for plane in part.reconstructed]
        rows.append((f"{part.title}:\ninput", masked))
        rows.append(
            (f"{part.title}:\nreconstruction", [*reconstructed, Panel("mean", part.mean, GREY)])
        )
    rows += _unit_rows(view)
    columns = max(len(panels) for _, panels in rows)
    height, width = view.field_mm
    wide = PANEL * max(width / height, NARROWEST) * columns + MARGIN
    tall = PANEL * 1.19 * len(rows) + 0.3
    figure = Figure(figsize=(wide, tall), dpi=DPI, facecolor="white")
    place: dict[str, Any] = {"x": 0.01, "ha": "left", "y": 0.997}
    # a case's name may have dollars, which are no formula
    figure.suptitle(view.title, fontsize=10, parse_math=False, **place)
    axes = np.atleast_2d(figure.subplots(len(rows), columns, squeeze=False))
    edges = {"left": MARGIN / wide, "right": 0.998, "bottom": 0.004, "top": 1 - 0.5 / tall}
    figure.subplots_adjust(**edges, wspace=0.04, hspace=0.2)
    for (name, panels), line in zip(rows, axes, strict=True):
        for axis, panel in zip(line, panels, strict=False):
            _draw(axis, panel, view)
        for axis in line[len(panels) :]:
            axis.remove()
        style = {"fontsize": 7.5, "ha": "right", "va": "center"}
        line[0].text(-0.06, 0.5, name, transform=line[0].transAxes, **style)
    return as_png(figure)


def _first_row(view: SliceView) -> list[Panel]:
    probability = torch.sigmoid(view.inside.logits).cpu().numpy()
    maps = map_style(view.residuals, signed=view.signed)
    return [
        Panel("image", view.image, GREY),
        Panel("prediction", probability, {"cmap": "viridis", "vmin": 0, "vmax": 1}),
        *(Panel(title, plane, maps) for title, plane in view.residuals.items()),
    ]


def _unit_rows(view: SliceView) -> list[tuple[str, list[Panel]]]:
    inside, rows = view.inside, []
    units = (("GCU: R", inside.similarity, SIGNED), ("RCU:\nimportance φ", inside.importance, GREY))
    for name, maps, style in units:
        planes = {level: over_slice(maps[level], level, view.image.shape) for level in sorted(maps)}
        panels = [
            Panel(f"{LEVEL_NAMES[level]}, {plane.min():.2f} to {plane.max():.2f}", plane, style)
            for level, plane in planes.items()
        ]
        rows += [(name, panels)] if panels else []
    attended = [
        Panel(
            f"{LEVEL_NAMES[level]}\n{title}",
            over_slice(plane, level, view.image.shape),
            {"cmap": "magma", "vmin": 0},
        )
        for level, planes in sorted(inside.attended.items())
        for title, plane in zip(view.residuals, planes, strict=True)
    ]
    return [*rows, ("RCU:\nattention", attended)] if attended else rows


def over_slice(values: Tensor, level: int, shape: tuple[int, ...]) -> Plane:
    """A unit's map at the slice's scale: each value covers its pixels.

    `values` is (h_l, w_l) at 1 / 2**level of the padded slice's scale, with padding at the end;
    the result has the slice's `shape` (h, w).
    """
    scale, (height, width) = 2**level, shape
    return np.kron(values.cpu().numpy(), np.ones((scale, scale), np.float32))[:height, :width]


def _draw(axis: Any, panel: Panel, view: SliceView) -> None:
    # one extent for planes of every scale, so that the contour fits all of them
    plane, (height, width) = view.orientation.plane(panel.plane), view.field_mm
    extent = (0, width, height, 0)
    axis.imshow(plane, extent=extent, aspect="equal", interpolation="nearest", **panel.style)
    if view.label is not None and view.label.any():
        label = view.orientation.plane(view.label)
        rows, columns = label.shape
        across = (np.arange(columns) + 0.5) * width / columns
        down = (np.arange(rows) + 0.5) * height / rows
        axis.contour(across, down, label, levels=[0.5], colors=[REFERENCE], linewidths=[0.7])
    axis.set_title(panel.title, fontsize=6.5, pad=2)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set(color="#b8c0c7", linewidth=0.6)
