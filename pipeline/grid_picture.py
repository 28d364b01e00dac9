"""A picture of two grids that should lie on one another: an image's and its label's."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.volumes import Geometry

COLOURS = {"image": "#0b5c8a", "label": "#d1495b"}
# what a plane shows of z, y, x: across and upwards
PLANES = {"from the front": (2, 0), "from the side": (1, 0), "from above": (2, 1)}


def grid_picture(image: Geometry, label: Geometry) -> bytes:
    """PNG of both grids' boxes in mm, seen along the patient's three axes.

    The first voxel of each is marked, so that flips show as well.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for panel, (title, (across, up)) in zip(figure.subplots(1, 3), PLANES.items(), strict=True):
        for (name, colour), grid in zip(COLOURS.items(), (image, label), strict=True):
            corners = box_corners(grid)
            for start, end in box_edges():
                line = corners[[start, end]]
                panel.plot(line[:, across], line[:, up], color=colour, linewidth=1.4, alpha=0.8)
            panel.plot(*corners[0][[across, up]], "o", color=colour, markersize=5, label=name)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(f"{'zyx'[across]}, mm", fontsize=8)
        panel.set_ylabel(f"{'zyx'[up]}, mm", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.set_aspect("equal", adjustable="datalim")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def box_corners(grid: Geometry) -> npt.NDArray[np.float64]:
    """Positions (8, 3) in mm (z, y, x) of a grid's corner voxels; the first is its first voxel."""
    last = np.array(grid.shape) - 1
    indices = np.array(list(product((0, 1), repeat=3))) * last
    direction = np.array(grid.direction).reshape(3, 3)
    corners: npt.NDArray[np.float64] = (
        np.array(grid.origin) + (indices * np.array(grid.spacing)) @ direction.T
    )
    return corners


def box_edges() -> list[tuple[int, int]]:
    """The twelve pairs of corners that an edge joins."""
    return [
        (first, second)
        for first, second in product(range(8), repeat=2)
        if first < second and (first ^ second).bit_count() == 1
    ]
