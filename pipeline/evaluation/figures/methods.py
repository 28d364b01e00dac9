"""The same slice in all methods (Figs. 6 to 8): contours, and errors below them.

Calcium is shown before post-processing, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.evaluation.figures.journal import (
    HEAD,
    Grid,
    grid_of,
    heading,
    largest_side,
    letter_of,
)
from pipeline.evaluation.figures.panels import (
    ERRORS,
    PREDICTED_LINE,
    TRUTH_LINE,
    error_map,
    near_window,
    show,
    show_masks,
    show_whole,
)
from pipeline.evaluation.figures.shown_cases import ShownCase, case_notes, shown_cases
from pipeline.evaluation.orientation import orientation_of
from pipeline.evaluation.tables import escaped
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout
from pipeline.storage.masks import Mask, thresholded_mask
from pipeline.storage.zarr_store import open_store, store_attributes

TITLE = "The same slice in all methods"


@dataclass(frozen=True)
class Block:
    """All methods' masks of one case: a letter of the figure."""

    case: ShownCase
    masks: dict[str, Mask]  # experiment → (rows, columns), 1 = lesion; it may lack some
    about: str  # the masks, beside them and in the caption


def methods_figure(layout: Layout, dataset: Dataset, seed: int) -> tuple[Figure, list[str]]:
    """The drawing and its caption; `seed` changes nothing.

    Raises:
        PipelineError: a result is missing or damaged, or a chosen case has none.
    """
    del seed
    names = list(dataset.experiments)
    cases = shown_cases(layout, dataset)
    blocks = [block for case in cases for block in _blocks(layout, dataset, case)]
    rows = [1 if block.case.view.reference is None else 2 for block in blocks]
    lines = best_lines(len(names), rows)
    handles = [TRUTH_LINE, PREDICTED_LINE, *(ERRORS if 2 in rows else ())]
    grid = grid_of(1 + math.ceil(len(names) / lines), heads_of(rows, lines), handles)
    row = 0
    for index, (block, height) in enumerate(zip(blocks, rows, strict=True)):
        grid.letter(row, index)
        if block.about:
            grid.label(row, row + lines * height - 1, block.about)
        _draw_block(grid, row, block, names, lines, height)
        row += lines * height
    return grid.figure, _caption(dataset, blocks)


def best_lines(methods: int, rows: list[int]) -> int:
    """Over how many lines the methods are spread, so that panels are as large as they can be."""

    def side(lines: int) -> float:
        return largest_side(1 + math.ceil(methods / lines), heads_of(rows, lines))

    return max(range(1, methods + 1), key=lambda lines: (round(side(lines), 3), -lines))


def heads_of(rows: list[int], lines: int) -> list[float]:
    """The room above each row, in mm; `rows` are those of a line of each block."""
    return [0.0 if row else HEAD for count in rows for _ in range(lines) for row in range(count)]


def _blocks(layout: Layout, dataset: Dataset, case: ShownCase) -> list[Block]:
    written = case.view.predictions
    if dataset.postprocess.method != "calcium":
        return [Block(case, written, "")]
    after = Block(case, written, "after post-processing")
    before = replace(case, dice=case.raw_dice)
    return [after, Block(before, raw_masks(layout, dataset, case), "before post-processing")]


def raw_masks(layout: Layout, dataset: Dataset, case: ShownCase) -> dict[str, Mask]:
    """Each experiment's mask of the slice before post-processing, turned for display."""
    view = case.view
    attributes: Any = open_store(layout.case_store(view.case)).attrs
    orientation = orientation_of(attributes["direction"])
    masks = {}
    for name in dataset.experiments:
        place = (name, case.subset, view.case)
        if store_attributes(layout.prediction_store(*place)) is not None:
            whole = thresholded_mask(layout, *place, dataset.postprocess.probability)
            masks[name] = np.asarray(orientation.plane(whole[view.z]))
    return masks


def _draw_block(
    grid: Grid, first: int, block: Block, names: list[str], lines: int, height: int
) -> None:
    """The methods of a block from a row on; its first column shows where they are."""
    view, near = block.case.view, near_window(block.case.view)
    columns = grid.columns - 1
    for index, name in enumerate(names):
        line, column = divmod(index, columns)
        row, mask = first + line * height, block.masks.get(name)
        panel = grid.panel(row, column + 1)
        show_masks(panel, view, near, mask)
        heading(panel, name if mask is not None else f"{name} (none)", grid.side)
        if view.reference is not None:
            nothing = np.zeros_like(view.reference)
            pair = (nothing, nothing) if mask is None else (mask, view.reference)
            show(grid.panel(row + 1, column + 1), view, error_map(view.image, *pair), near)
    whole = grid.panel(first, 0)
    show_whole(whole, view, near)
    heading(whole, "slice", grid.side)
    if lines * height > 1:
        truth = grid.panel(first + 1, 0)
        show_masks(truth, view, near, None)


def _caption(dataset: Dataset, blocks: list[Block]) -> list[str]:
    lines = [
        "One slice of each case in every method, as in the paper's Figs. 6 to 8. Left: the slice, "
        "whose white frame the other panels show, and the frame with the reference. Upper rows: "
        "contours of the reference (blue) and of the prediction (orange). Lower rows: the "
        "prediction's errors, red false positive, green false negative, light true positive."
    ]
    for index, block in enumerate(blocks):
        about = f", {block.about}" if block.about else ""
        lines.append(f"**{letter_of(index)}**{about}: {case_notes(block.case)}.")
    if repeated := [name for name, row in dataset.experiments.items() if row.repeats > 1]:
        lines.append(f"Of {', '.join(map(escaped, repeated))} the first repeat is shown.")
    return lines
