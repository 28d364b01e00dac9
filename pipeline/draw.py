"""Stage `draw`: one of the paper's figures from the results, with its caption."""

from __future__ import annotations

import logging
from collections.abc import Callable

from matplotlib.figure import Figure

from pipeline.evaluation.figures import guidance, lesion_sizes, methods, reconstructions, sources
from pipeline.evaluation.figures.journal import INCH_MM, files_of, journal_style
from pipeline.settings import Dataset
from pipeline.storage.files import write
from pipeline.storage.layout import Layout

VERSION = 2
log = logging.getLogger(__name__)
Draw = Callable[[Layout, Dataset, int], tuple[Figure, list[str]]]
FIGURES: dict[str, tuple[str, Draw]] = {
    "methods": (methods.TITLE, methods.methods_figure),
    "lesion-size": (lesion_sizes.TITLE, lesion_sizes.lesion_size_figure),
    "reconstruction": (reconstructions.TITLE, reconstructions.reconstruction_figure),
    "residual-guidance": (guidance.TITLE, guidance.guidance_figure),
    "residual-sources": (sources.TITLE, sources.sources_figure),
}


def draw(layout: Layout, name: str, dataset: Dataset, seed: int) -> None:
    """Write a figure that the data set has, as SVG, PDF and PNG, and its caption as Markdown.

    Raises:
        PipelineError: a result that it shows is missing or damaged, or a chosen case has none.
    """
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every table of a font
    title, figure_of = FIGURES[name]
    with journal_style():
        figure, caption = figure_of(layout, dataset, seed)
        files = files_of(figure)
    width, height = figure.get_size_inches() * INCH_MM
    size = f"Printed {width:.0f} mm wide and {height:.0f} mm high."
    for suffix, content in files.items():
        write(layout.figure(name, suffix), content)
    page = layout.figure(name, ".md")
    write(page, "\n\n".join([f"# {title}", *caption, size]) + "\n")
    log.info("figure %s: %s", name, page)
