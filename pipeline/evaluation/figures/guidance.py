"""What residual maps change (Fig. 10): the maps of a slice, and a network without and with them."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pipeline.evaluation.case_view import residual_planes
from pipeline.evaluation.figures.contents import guided_pair, sets_shown
from pipeline.evaluation.figures.journal import HEAD, Grid, grid_of, heading, letter_of
from pipeline.evaluation.figures.panels import (
    PREDICTED_LINE,
    TRUTH_LINE,
    bar_room,
    colour_bar,
    near_window,
    scale_bar,
    show,
    show_masks,
    show_whole,
    whole_window,
)
from pipeline.evaluation.figures.shown_cases import ShownCase, case_notes, shown_cases
from pipeline.evaluation.pictures import map_style
from pipeline.evaluation.tables import escaped
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout

TITLE = "A network without and with residual maps"


def guidance_figure(layout: Layout, dataset: Dataset, seed: int) -> tuple[Figure, list[str]]:
    """The drawing and its caption; `seed` changes nothing.

    Raises:
        PipelineError: a result is missing or damaged, or a chosen case has none.
    """
    del seed
    pair = guided_pair(dataset)
    assert pair
    (name,) = sets_shown(dataset, "residual-guidance")
    cases, titles = shown_cases(layout, dataset), dataset.residuals[name].titles
    maps = [_maps(layout, dataset, name, case) for case in cases]
    handles, beside = [TRUTH_LINE, PREDICTED_LINE], bar_room(style for _, style in maps)
    grid = grid_of(1 + len(titles) + 3, [HEAD] * len(cases), handles, beside)
    for row, case in enumerate(cases):
        grid.letter(row, row)
        _draw_case(grid, row, case, pair, maps[row])
    return grid.figure, _caption(dataset, pair, name, cases)


def _maps(
    layout: Layout, dataset: Dataset, name: str, case: ShownCase
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The set's maps of the slice, and their colours."""
    view = case.view
    maps = residual_planes(layout, dataset, name, view.case, case.subset, view.z)
    return maps, map_style(maps, signed=dataset.residuals[name].signed)


def _draw_case(
    grid: Grid,
    row: int,
    case: ShownCase,
    pair: tuple[str, str],
    shown: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    view, (maps, style) = case.view, shown
    near, whole = near_window(view), whole_window(view)
    panel = grid.panel(row, 0)
    show_whole(panel, view, near)
    heading(panel, "image", grid.side)
    for column, (title, plane) in enumerate(maps.items(), start=1):
        panel = grid.panel(row, column)
        show(panel, view, plane, whole, **style)
        heading(panel, title.removeprefix("Residual, "), grid.side)
    for column, name in enumerate((*pair, None), start=grid.columns - 3):
        panel = grid.panel(row, column)
        show_masks(panel, view, near, view.predictions.get(name) if name else None)
        heading(panel, name or "reference", grid.side)
    scale_bar(panel, near)
    if maps:
        colour_bar(grid.figure, grid.right, grid.tops[row], grid.side, style)


def _caption(
    dataset: Dataset, pair: tuple[str, str], name: str, cases: list[ShownCase]
) -> list[str]:
    plain, guided = map(escaped, pair)
    lines = [
        f"Image, residual maps (set {escaped(name)}, one scale a case) and, in the image's white "
        f"frame, the masks of {plain}, which sees no maps, of {guided}, which sees these, and the "
        "reference, as in the paper's Fig. 10: reference blue, prediction orange."
    ]
    repeated = [each for each in pair if dataset.experiments[each].repeats > 1]
    if repeated:
        lines[0] += f" Of {', '.join(map(escaped, repeated))} the first repeat is shown."
    return lines + [f"**{letter_of(n)}**: {case_notes(case)}." for n, case in enumerate(cases)]
