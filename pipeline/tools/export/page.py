"""The page of a predicted image: measures, and the slices that show the lesions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipeline.evaluation.case_view import view_case
from pipeline.evaluation.cohort.measures import in_words
from pipeline.evaluation.colours import ON_BLACK, colours_of
from pipeline.evaluation.pictures import DPI, as_png, case_picture
from pipeline.settings.apply.bundle import Bundle
from pipeline.storage.layout import Layout
from pipeline.storage.masks import Mask

HEADER_INCHES = 0.75


def prediction_page(
    layout: Layout, bundle: Bundle, name: str, mask: Mask, measured: Mapping[str, Any]
) -> bytes:
    """PNG: a few lines, and for up to three slices the image, its maps and the contour.

    `mask` is (z, y, x), 1 = lesion; `measured` has `lesions`, `lesion_ml`, perhaps `agatston`.
    """
    experiments = {bundle.result: bundle.dataset.experiments[bundle.experiment]}
    alone = bundle.dataset.model_copy(update={"experiments": experiments})
    colours = colours_of([bundle.result], ON_BLACK)
    rows = []
    for z in shown_slices(mask):
        picture = case_picture(view_case(layout, alone, name, bundle.subset, z=z), colours)
        rows.append((z, imread(io.BytesIO(picture), format="png")))
    width = max(row.shape[1] for _, row in rows)
    height = sum(row.shape[0] for _, row in rows) / DPI + HEADER_INCHES
    figure = Figure(figsize=(width / DPI, height), dpi=DPI, facecolor="white")
    style: dict[str, Any] = {"va": "center", "parse_math": False}  # dollars are no formula
    figure.text(0.01, 1 - 0.25 / height, name, fontsize=12, **style)
    line = f"{bundle.result} of {bundle.name}: {in_words(measured)}. Not for diagnosis."
    figure.text(0.01, 1 - 0.55 / height, line, fontsize=8, **style)
    top = round(height * DPI) - round(HEADER_INCHES * DPI)
    for z, row in rows:
        figure.figimage(row, 0, top - row.shape[0])
        figure.text(0.01, (top - 12) / (height * DPI), f"slice {z + 1} of {len(mask)}", fontsize=7)
        top -= row.shape[0]
    return as_png(figure)


def shown_slices(mask: Mask) -> list[int]:
    """The slice with most lesion, and the middle ones of the lesion slices above and below it.

    Without lesion, the middle slice.
    """
    areas = mask.sum(axis=(1, 2))
    if not areas.any():
        return [len(mask) // 2]
    most, slices = int(areas.argmax()), np.flatnonzero(areas)
    sides = [slices[slices < most], slices[slices > most]]
    return sorted({most, *(int(side[len(side) // 2]) for side in sides if side.size)})
