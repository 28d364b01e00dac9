"""Residual maps of all sets side by side (Fig. 11)."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.case_view import residual_planes
from pipeline.evaluation.colours import TRUTH
from pipeline.evaluation.figures.contents import sets_shown
from pipeline.evaluation.figures.journal import HEAD, grid_of, heading, letter_of
from pipeline.evaluation.figures.panels import LINE, TRUTH_LINE, show, show_whole, whole_window
from pipeline.evaluation.figures.shown_cases import ShownCase, case_notes, shown_cases
from pipeline.evaluation.pictures import draw_contour, map_style
from pipeline.evaluation.tables import escaped
from pipeline.settings import Dataset, Residuals
from pipeline.storage.layout import Layout

TITLE = "Residual maps of different sources"
COLUMNS = 6  # at most


def sources_figure(layout: Layout, dataset: Dataset, seed: int) -> tuple[Figure, list[str]]:
    """The drawing and its caption; `seed` changes nothing.

    Raises:
        PipelineError: a result is missing or damaged, or a chosen case has none.
    """
    del seed
    names, cases = sets_shown(dataset, "residual-sources"), shown_cases(layout, dataset)
    count = 1 + sum(len(dataset.residuals[name].titles) for name in names)
    lines = math.ceil(count / COLUMNS)
    columns = math.ceil(count / lines)
    grid = grid_of(columns, [HEAD] * (lines * len(cases)), [TRUTH_LINE])
    for index, case in enumerate(cases):
        first = index * lines
        grid.letter(first, index)
        panel = grid.panel(first, 0)
        show_whole(panel, case.view)
        _outline(panel, case)
        heading(panel, "image", grid.side)
        for place, (title, plane, style) in enumerate(_maps(layout, dataset, case), start=1):
            line, column = divmod(place, columns)
            panel = grid.panel(first + line, column)
            show(panel, case.view, plane, whole_window(case.view), **style)
            _outline(panel, case)
            heading(panel, title, grid.side)
    return grid.figure, _caption(dataset, names, cases)


def _maps(
    layout: Layout, dataset: Dataset, case: ShownCase
) -> list[tuple[str, npt.NDArray[Any], dict[str, Any]]]:
    """Title, plane and colours of each map of each set."""
    shown = []
    for name in sets_shown(dataset, "residual-sources"):
        residuals, view = dataset.residuals[name], case.view
        maps = residual_planes(layout, dataset, name, view.case, case.subset, view.z)
        style = map_style(maps, signed=residuals.signed)
        ratios = [f"{part.mask_ratio:.0%}" for part in getattr(residuals, "maps", ())] or [""]
        for ratio, plane in zip(ratios, maps.values(), strict=False):
            shown.append((f"{name} {ratio}".strip(), plane, style))
    return shown


def _outline(panel: Any, case: ShownCase) -> None:
    if case.view.reference is not None:
        draw_contour(panel, case.view.reference, case.view.pixel_mm, TRUTH, LINE)


def _caption(dataset: Dataset, names: list[str], cases: list[ShownCase]) -> list[str]:
    told = []
    for name in names:
        residuals = dataset.residuals[name]
        if isinstance(residuals, Residuals):
            maes = dict.fromkeys(part.mae for part in residuals.maps)
            kinds = ", ".join(f"{escaped(mae)}, {dataset.mae[mae].architecture}" for mae in maes)
            told.append(f"{escaped(name)}: {residuals.difference} ({kinds})")
        else:
            told.append(f"{escaped(name)}: Grad-CAM of {escaped(residuals.grad_cam)}")
    lines = [
        "Residual maps of every set that an experiment sees, as in the paper's Fig. 11, each set "
        f"with a scale of its own; the reference is outlined. {'; '.join(told)}."
    ]
    return lines + [f"**{letter_of(n)}**: {case_notes(case)}." for n, case in enumerate(cases)]
