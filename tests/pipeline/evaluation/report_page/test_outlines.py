"""Outlines run along every side between a marked pixel and one that is not, and nowhere else."""

import re

import numpy as np
import pytest

from pipeline.evaluation.report_page.outlines import outline


def sides(path):
    """The unit sides of a path: (x, y, "h" or "v")."""
    found = []
    for x, y, way, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path):
        steps = range(int(length))
        found += [(int(x) + (way == "h") * n, int(y) + (way == "v") * n, way) for n in steps]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_an_outline_has_each_side_once(seed):
    mask = np.random.default_rng(seed).random((7, 9)) < 0.5
    padded = np.pad(mask, 1)
    expected = [
        (x, y, "h") for y in range(8) for x in range(9) if padded[y, x + 1] != padded[y + 1, x + 1]
    ]
    expected += [
        (x, y, "v") for y in range(7) for x in range(10) if padded[y + 1, x] != padded[y + 1, x + 1]
    ]
    assert sorted(sides(outline(mask))) == sorted(expected)


def test_sides_in_a_row_are_one_line_and_nothing_has_none(box):
    assert outline(box((9, 9), (2, 5), (3, 7))) == "M3 2h4M3 5h4M3 2v3M7 2v3"
    assert outline(np.zeros((3, 3), bool)) == ""
