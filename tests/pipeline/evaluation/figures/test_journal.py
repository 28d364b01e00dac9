"""Sheets of the printed size, titles that fit, and panels as large as a page lets them be."""

import re

import pytest

from pipeline.evaluation.figures.journal import (
    DOUBLE_MM,
    FEWEST_POINTS,
    HEAD,
    MARGIN,
    POINTS,
    SINGLE_MM,
    TALLEST_MM,
    files_of,
    fitted,
    grid_of,
    heading,
    journal_style,
    text_width_mm,
)
from pipeline.evaluation.figures.methods import best_lines
from tests.pipeline.sheets import cut_texts


@pytest.mark.parametrize(("columns", "rows", "width"), [(3, 2, SINGLE_MM), (11, 8, DOUBLE_MM)])
def test_a_grid_fills_the_width_of_a_column_of_text(columns, rows, width):
    grid = grid_of(columns, [4.0] * rows)
    across, down = grid.figure.get_size_inches() * 25.4
    assert across == pytest.approx(width)
    assert grid.right == pytest.approx(width)
    last = grid.panel(rows - 1, columns - 1).get_position()
    assert (last.width * across, last.height * down) == pytest.approx((grid.side, grid.side))
    assert last.x1 == pytest.approx(1)
    assert down <= TALLEST_MM


def test_a_sheet_is_never_higher_than_a_page():
    grid = grid_of(4, [4.0] * 12)
    assert grid.figure.get_size_inches()[1] * 25.4 == pytest.approx(TALLEST_MM)
    assert grid.left - MARGIN == pytest.approx(DOUBLE_MM - grid.right), "in the middle"
    assert grid.left > 2 * MARGIN


def test_a_title_is_8_pt_or_smaller_or_in_two_lines():
    assert fitted("unet", 30) == (["unet"], POINTS)
    lines, points = fitted("deeplabv3-with-residuals", 16)
    assert "".join(lines) == "deeplabv3-with-residuals"
    assert len(lines) == 2
    assert FEWEST_POINTS <= points < POINTS
    assert max(map(text_width_mm, lines)) * points / POINTS <= 16.01


def test_a_title_of_any_length_stays_above_its_panel_and_on_the_sheet():
    with journal_style():
        grid = grid_of(11, [HEAD, HEAD])
        for row, name in enumerate(("grcsf-of-the-second-reader", "Unbroken" * 4)):
            panel = grid.panel(row, 10)
            panel.set(xticks=[], yticks=[])
            heading(panel, name, grid.side)
        grid.letter(0, 1)
        grid.label(1, 1, "before post-processing")
        assert cut_texts(grid.figure) == []


def test_methods_take_as_many_lines_as_give_the_largest_panels():
    assert best_lines(3, [2]) == 1
    assert best_lines(11, [2]) > 1
    assert best_lines(11, [2, 2, 2, 2]) == 1, "more would make the sheet higher than a page"


def test_files_are_the_same_each_time_undated_and_their_text_is_text():
    def made():
        with journal_style():
            grid = grid_of(2, [4.0])
            heading(grid.panel(0, 0), "TransUNet", grid.side)
            grid.panel(0, 1).plot([0, 1], [0, 1])
            return files_of(grid.figure)

    files = made()
    assert files == made()
    svg = files[".svg"].decode()
    assert re.search(r"<text[^>]*>TransUNet</text>", svg)
    assert f'width="{SINGLE_MM / 25.4 * 72:.6f}pt' in svg
    assert "dc:date" not in svg
    assert b"CreationDate" not in files[".pdf"]
    assert b"/FontFile2" in files[".pdf"], "TrueType, which editors can change"
