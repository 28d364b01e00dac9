"""The sheet that a journal prints: sizes in mm, type, lines, letters, and a figure's files."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

SINGLE_MM, DOUBLE_MM, TALLEST_MM = 88.0, 180.0, 225.0  # widths of columns; a page less its caption
INCH_MM, POINT_MM = 25.4, 25.4 / 72
POINTS, FEWEST_POINTS = 8.0, 5.0
FEW_COLUMNS = 3  # of panels, which one column of text is wide enough for
GAP, MARGIN = 0.8, 5.0  # mm: between panels, and left of them
EDGE = 0.3  # mm that a sheet keeps free of text along its edges
TITLE_GAP, LINE_SPACING = 2.5, 0.95  # points between a title and its panel; of a line's height
SMALL = 0.75 * POINTS  # points of a title in two lines
HEAD = (TITLE_GAP + 2 * SMALL) * POINT_MM + EDGE  # mm above panels: a title's two lines
LEGEND_LINE, LEGEND_MARK = 4.0, 9.0  # mm: height of a legend's line, width of a mark with its gaps
FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
STYLE: dict[Any, Any] = {
    **{"font.family": "sans-serif", "font.sans-serif": [FONT], "font.size": POINTS},
    **{f"{part}.titlesize": POINTS for part in ("axes", "figure")},
    **{"axes.labelsize": POINTS, "legend.fontsize": 7.0, "axes.linewidth": 0.5},
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
    **{f"{axis}tick.labelsize": 7.0 for axis in "xy"},
    **{f"{axis}tick.major.width": 0.5 for axis in "xy"},
    **{f"{axis}tick.major.size": 2.0 for axis in "xy"},
    **{"savefig.dpi": 300, "figure.dpi": 300, "savefig.facecolor": "white"},
    # text stays text in SVG and PDF; identifiers come from the content alone
    **{"svg.fonttype": "none", "svg.hashsalt": "grcsf", "pdf.fonttype": 42},
}
UNDATED: Mapping[str, dict[str, Any]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".png": {},
}


@contextmanager
def journal_style() -> Iterator[None]:
    """Draw in this style, whatever a user's own matplotlib settings say."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def files_of(figure: Figure) -> dict[str, bytes]:
    """A figure's SVG, PDF and PNG by suffix; equal figures have equal bytes."""
    files = {}
    for suffix, metadata in UNDATED.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], metadata=metadata)
        files[suffix] = content.getvalue()
    return files


def sheet(width_mm: float, height_mm: float) -> Figure:
    """An empty figure of the printed size."""
    return Figure(figsize=(width_mm / INCH_MM, height_mm / INCH_MM))


def panel_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in mm from the figure's top left corner."""
    whole_width, whole_height = figure.get_size_inches() * INCH_MM
    bottom = whole_height - top - height
    place = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return figure.add_axes(place)


def text_at(figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
    """Text whose upper left corner lies at a place in mm, unless the style says otherwise."""
    width, height = figure.get_size_inches() * INCH_MM
    place: dict[str, Any] = {"ha": "left", "va": "top"}
    figure.text(left / width, 1 - top / height, text, **(place | style))


def letter_of(index: int) -> str:
    """The letter of a panel, from 0; a1 follows z."""
    rounds, place = divmod(index, 26)
    return chr(ord("a") + place) + (str(rounds) if rounds else "")


def heading(axes: Axes, text: str, width_mm: float) -> None:
    """A title as wide as its panel: smaller or in two lines where it has to be."""
    lines, points = fitted(text, width_mm - GAP)
    text = "\n".join(lines)
    axes.set_title(text, fontsize=points, pad=TITLE_GAP, linespacing=LINE_SPACING)


def fitted(text: str, width_mm: float) -> tuple[list[str], float]:
    """The lines of a text, one or two, and the points in which they fit into a width."""
    gaps = [gap.start() for gap in re.finditer(r"(?<=[-_+, ])(?=\S)", text)]
    lines = _two_lines(text, gaps, width_mm)
    if _points(lines, width_mm) < FEWEST_POINTS:
        # a name broken anywhere is still read; one that is cut is not, so it may be smaller, too
        lines = _two_lines(text, range(1, len(text)), width_mm)
    whole, points = _points([text], width_mm), min(SMALL, _points(lines, width_mm))
    return ([text], min(POINTS, whole)) if whole >= points else (lines, points)


def _two_lines(text: str, places: Iterable[int], width_mm: float) -> list[str]:
    """The text broken at that place where it can be printed largest; whole where there is none."""
    broken = [[text[:place].rstrip(), text[place:]] for place in places]
    return max(broken, key=lambda lines: _points(lines, width_mm), default=[text])


def _points(lines: Sequence[str], width_mm: float) -> float:
    """In how many points the longest of these lines is as wide."""
    return POINTS * width_mm / max(map(text_width_mm, lines))


def text_width_mm(text: str, points: float = POINTS) -> float:
    """The width of a line of text in the figures' type."""
    font = FontProperties(family=FONT, size=points)
    width, _, _ = text_to_path.get_text_width_height_descent(text or " ", font, ismath=False)
    return float(width) * POINT_MM


@dataclass(frozen=True)
class Grid:
    """Square panels on a sheet, in rows and columns."""

    figure: Figure
    left: float  # mm to the first column
    side: float  # mm of a panel
    tops: tuple[float, ...]  # mm from the sheet's top to each row
    columns: int

    def panel(self, row: int, column: int) -> Axes:
        """The axes of one panel."""
        left = self.left + column * (self.side + GAP)
        return panel_at(self.figure, left, self.tops[row], self.side, self.side)

    def letter(self, row: int, index: int) -> None:
        """The letter of what begins with this row, a for index 0."""
        place = self.left - MARGIN + EDGE, self.tops[row] - HEAD + EDGE
        text_at(self.figure, *place, letter_of(index), fontweight="bold", fontsize=POINTS + 1)

    def label(self, first: int, last: int, text: str) -> None:
        """A text that runs upwards left of these rows, in one line or two."""
        top, bottom = self.tops[first], self.tops[last] + self.side
        lines, points = fitted(text, bottom - top)
        how = {"ha": "right", "va": "center", "ma": "center", "rotation": 90}
        look = {"fontsize": points, "linespacing": LINE_SPACING}
        text_at(self.figure, self.left - GAP, (top + bottom) / 2, "\n".join(lines), **how, **look)

    @property
    def right(self) -> float:
        """Where the last column ends, in mm."""
        return self.left + self.columns * (self.side + GAP) - GAP


def legend_shape(labels: Sequence[str], width_mm: float) -> tuple[int, float]:
    """In how many columns a legend of this width stands, and how high it is in mm."""
    entry = LEGEND_MARK + max(map(text_width_mm, labels))
    columns = max(1, min(len(labels), int(width_mm / entry)))
    return columns, 2.0 + LEGEND_LINE * math.ceil(len(labels) / columns)


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend at the foot of a figure, as wide as this."""
    width = float(figure.get_size_inches()[0]) * INCH_MM
    columns, _ = legend_shape([str(handle.get_label()) for handle in handles], width)
    figure.legend(handles=handles, loc="lower center", ncols=columns, borderpad=0.2)


def width_of(columns: int) -> float:
    """The width in mm of a sheet with these columns of panels."""
    return SINGLE_MM if columns <= FEW_COLUMNS else DOUBLE_MM


def grid_of(
    columns: int, heads: Sequence[float], handles: Sequence[Artist] = (), beside: float = 0.0
) -> Grid:
    """A sheet of square panels, one or two columns of text wide and at most a page high.

    `heads` is the room above each row, `beside` that right of the panels, in mm; `handles` are
    those of the legend below them.
    """
    width = width_of(columns)
    labels = [str(handle.get_label()) for handle in handles]
    foot = legend_shape(labels, width)[1] if labels else 2 * GAP
    side = largest_side(columns, heads, beside, foot)
    tops, down = [], 0.0
    for head in heads:
        tops.append(down + head)
        down += head + side + GAP
    figure = sheet(width, down - GAP + foot)
    if handles:
        legend_below(figure, handles)
    # what is as high as a page may be narrower than its sheet
    left = MARGIN + (width - MARGIN - beside - columns * (side + GAP) + GAP) / 2
    return Grid(figure, left, side, tuple(tops), columns)


def largest_side(
    columns: int, heads: Sequence[float], beside: float = 0.0, foot: float = 0.0
) -> float:
    """The side in mm of the panels of such a sheet; `foot` is the room below them."""
    across = (width_of(columns) - MARGIN - beside - GAP * (columns - 1)) / columns
    down = (TALLEST_MM - foot - sum(heads) - GAP * (len(heads) - 1)) / len(heads)
    return min(across, down)
