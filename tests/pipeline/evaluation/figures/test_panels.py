"""Error maps say at each pixel what went wrong there; colour bars tell their scale whole."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pipeline.evaluation.colours import FALSE_NEGATIVE, FALSE_POSITIVE, HIT, PREDICTED, TRUTH
from pipeline.evaluation.figures.panels import bar_figures, error_map

# linear RGB as a dichromat sees it (Machado et al. 2009, severity 1)
SEEN = {
    "deuteranopia": [
        *([0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413]),
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        *([0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216]),
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
SMALL = {0.00005: "0.00005", 0.0001: "0.00010", 0.00015: "0.00015", 0.0002: "0.00020"}
EASILY = 20  # CIE L*a*b* apart: ten times what an eye tells apart side by side


def lab(colour, seen):
    """L*, a*, b* of a colour through a matrix of linear RGB."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)
    x, y, z = np.cbrt(TO_XYZ @ np.clip(seen @ linear, 0, 1) / TO_XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SEEN)
def test_errors_and_contours_are_told_apart_without_red_or_green_cones(sight):
    pairs = [(FALSE_POSITIVE, FALSE_NEGATIVE), (FALSE_POSITIVE, HIT), (FALSE_NEGATIVE, HIT)]
    for first, second in [*pairs, (TRUTH, PREDICTED)]:
        apart = lab(first, np.array(SEEN[sight])) - lab(second, np.array(SEEN[sight]))
        assert np.linalg.norm(apart) > EASILY, (first, second)


def test_a_colour_bar_s_figures_have_as_many_decimals_and_a_real_minus():
    told = bar_figures({"vmin": -0.3, "vmax": 0.3})
    assert list(told.values()) == ["−0.30", "−0.15", "0.00", "0.15", "0.30"]
    assert bar_figures({"vmin": 0, "vmax": 0.0002}) == {0: "0.00000", **SMALL}


def test_false_positives_are_red_false_negatives_green_and_hits_light():
    image = np.float32([[0.5, 0.5, 0.5, 0.5]])
    prediction, reference = np.array([[0, 1, 0, 1]], bool), np.array([[0, 0, 1, 1]], bool)
    nothing, positive, negative, hit = error_map(image, prediction, reference)[0]
    np.testing.assert_allclose(positive, to_rgb(FALSE_POSITIVE))
    np.testing.assert_allclose(negative, to_rgb(FALSE_NEGATIVE))
    np.testing.assert_allclose(hit, to_rgb(HIT))
    assert positive[0] > max(positive[1:]), "red"
    assert negative[1] > max(negative[0], negative[2]), "green"
    assert np.ptp(nothing) == 0, "the image, in grey"
    assert 0 < nothing[0] < 0.5, "and dimmed"
