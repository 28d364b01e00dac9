"""What the masked autoencoder sees and makes of a slice at each mask ratio (Fig. 3)."""

from __future__ import annotations

from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from pipeline.errors import PipelineError
from pipeline.evaluation.case_view import CaseView, residual_planes
from pipeline.evaluation.figures.contents import sets_shown
from pipeline.evaluation.figures.journal import (
    GAP,
    HEAD,
    Grid,
    grid_of,
    heading,
    letter_of,
)
from pipeline.evaluation.figures.panels import (
    bar_room,
    colour_bar,
    corner,
    show,
    show_masks,
    show_whole,
    whole_window,
)
from pipeline.evaluation.figures.shown_cases import ShownCase, case_notes, shown_cases
from pipeline.evaluation.orientation import orientation_of
from pipeline.evaluation.pictures import map_style
from pipeline.evaluation.tables import escaped
from pipeline.networks.reconstruction import Passes, models_of_maps, slice_passes
from pipeline.settings import Dataset, Residuals
from pipeline.settings.instances import residual_instance
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import open_store, read_array

TITLE = "Reconstructions and residual maps"
COLUMNS = ("image", "masked input", "reconstruction", "mean", "residual map")
HIDDEN: dict[str, Any] = {"cmap": colormaps["gray"].with_extremes(bad="#8c8c8c")}


def reconstruction_figure(layout: Layout, dataset: Dataset, seed: int) -> tuple[Figure, list[str]]:
    """The drawing and its caption; the passes are computed again, with the masks of their store.

    Raises:
        PipelineError: a result is missing or damaged, the maps were made by another MAE, or a
            chosen slice is empty.
    """
    (name,) = sets_shown(dataset, "reconstruction")
    cases = shown_cases(layout, dataset)
    count, signed = len(dataset.residuals[name].titles), dataset.residuals[name].signed
    maps = [
        residual_planes(layout, dataset, name, case.view.case, case.subset, case.view.z)
        for case in cases
    ]
    styles = [map_style(planes, signed=signed) for planes in maps]
    heads = [HEAD if row == 0 else 0.0 for _ in cases for row in range(count)]
    # the reference stands below the image; below a single map there is no row
    grid = grid_of(len(COLUMNS) + (count == 1), heads, beside=bar_room(styles))
    for index, case in enumerate(cases):
        grid.letter(index * count, index)
        passes = passes_of(layout, dataset, name, case, seed)
        _draw_case(grid, index * count, case.view, passes, (maps[index], styles[index]))
    return grid.figure, _caption(dataset, name, cases)


def passes_of(
    layout: Layout, dataset: Dataset, name: str, case: ShownCase, seed: int
) -> list[Passes]:
    """The first pass and the mean of the shown slice at each ratio, turned for display."""
    view, residuals = case.view, dataset.residuals[name]
    store = open_store(layout.case_store(view.case))
    plane = read_array(store, "image", slice(view.z, view.z + 1))
    if plane.min() == plane.max():
        found = f"figures.cases: found slice {view.z + 1} of case {view.case}, which is empty"
        raise PipelineError(f"{found}, so that nothing is reconstructed of it; choose another")
    instance = residual_instance(dataset, name, case.subset)
    models = models_of_maps(layout, dataset, instance, view.case, seed)
    image = network_slices(plane, intensity_range(store.attrs, dataset.slices), dataset.slices.size)
    assert isinstance(residuals, Residuals)
    shown = slice_passes(models, residuals, image, view.case, view.z, seed)
    turn = orientation_of(store.attrs["direction"]).plane  # type: ignore[arg-type]
    return [
        Passes(each.title, turn(each.masked[0]), turn(each.reconstructed[0]), turn(each.mean))
        for each in shown
    ]


def _draw_case(
    grid: Grid,
    first: int,
    view: CaseView,
    passes: list[Passes],  # of each ratio, as `passes_of` has them
    shown: tuple[dict[str, Any], dict[str, Any]],  # maps by title, and their colours
) -> None:
    window, (maps, style) = whole_window(view), shown
    panel = grid.panel(first, 0)
    show_whole(panel, view)
    heading(panel, COLUMNS[0], grid.side)
    panel = grid.panel(first + 1, 0) if len(passes) > 1 else grid.panel(first, len(COLUMNS))
    show_masks(panel, view, window, None)
    corner(panel, "no reference" if view.reference is None else "reference")
    for row, (ratio, residual) in enumerate(zip(passes, maps.values(), strict=True), start=first):
        planes = (ratio.masked, ratio.reconstructed, ratio.mean, residual)
        for column, plane in enumerate(planes, start=1):
            how: dict[str, Any] = {1: HIDDEN, 4: style}.get(column, {})
            panel = grid.panel(row, column)
            show(panel, view, plane, window, **how)
            if row == first:
                heading(panel, COLUMNS[column], grid.side)
            if column == 1:
                corner(panel, ratio.title)
    height = len(passes) * (grid.side + GAP) - GAP
    colour_bar(grid.figure, grid.right, grid.tops[first], height, style)


def _caption(dataset: Dataset, name: str, cases: list[ShownCase]) -> list[str]:
    residuals = dataset.residuals[name]
    assert isinstance(residuals, Residuals)
    ratios = [f"{part.mask_ratio:.0%} in {part.passes} passes" for part in residuals.maps]
    lines = [
        "What the masked autoencoder sees and makes of a slice, as in the paper's Fig. 3. The "
        "masked input (hidden patches are grey) and the reconstruction (visible patches are the "
        "image's own) are those of the first pass, the mean is that of all passes, and the "
        f"residual map ({residuals.difference}) is the stored one. Residual set {escaped(name)}: "
        f"{' and '.join(ratios)} of {residuals.masks} masks, those of the stored maps; visible "
        f"patches: {residuals.visible}. All maps of a case share one scale."
    ]
    lines += [f"**{letter_of(n)}**: {case_notes(case)}." for n, case in enumerate(cases)]
    return lines
