"""Pictures show every value, and the part of a slice that matters."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.image import imread

from pipeline.evaluation.case_view import CaseView
from pipeline.evaluation.colours import BRIGHTER, DARKER, GROUND, ON_BLACK, ON_WHITE, colours_of
from pipeline.evaluation.pictures import body_window, case_picture, close_up, map_style
from pipeline.evaluation.score_pictures import SCORES, agreement_picture, group_picture


def test_a_size_group_s_picture_has_a_dot_for_every_patient():
    values = {"1–100": {"a": [0.1, 0.5, math.nan], "b": [0.2]}, ">1000": {"a": [], "b": [0.9]}}

    def coloured(values):
        picture = imread(io.BytesIO(group_picture(values)), format="png")[..., :3]
        return np.abs(picture - to_rgb(ON_WHITE[0])).max(axis=-1) < 0.02

    fewer = {**values, "1–100": {**values["1–100"], "a": [math.nan]}}
    assert coloured(values).sum() > coloured(fewer).sum() > 0, "the legend keeps its dot"


def test_many_methods_and_names_of_groups_like_formulas_are_shown_whole():
    names = [f"a-method-of-a-long-name-{number}" for number in range(10)]
    dice = {name: [math.nan] for name in names}
    values = {r"$\foo{$": dice, "a $x_1$ " * 9: dice}
    picture = imread(io.BytesIO(group_picture(values)), format="png")[..., :3]
    for colour in ON_WHITE:  # there is nothing in these colours but the legend
        assert (np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02).sum() > 20, colour
    # no name runs into the next or off the picture: between them, and at the sides, all is white
    labels = picture[-40:].min(axis=(0, 2)) < 0.9
    assert not labels[[0, -1]].any()
    middle = len(labels) // 2
    assert not labels[middle - 10 : middle + 10].any()


def test_scores_that_agree_but_for_rounding_lie_on_the_line():
    columns = [name for pair in SCORES.values() for name in pair]
    exact = pd.DataFrame([[value] * 4 for value in (0.0, 60.0, 2485.0)], columns=columns)
    rounded = exact.copy()
    for _, predicted in SCORES.values():
        rounded[predicted] += [0.0, 1e-14, 4e-13]
    pictures = [imread(io.BytesIO(agreement_picture({"a": scores}))) for scores in (exact, rounded)]
    np.testing.assert_allclose(pictures[0], pictures[1], atol=0.05)


def test_signed_maps_are_grey_at_0_and_of_two_hues_that_all_can_tell_apart():
    planes = {"a": np.float32([[-0.4, 0.0]]), "b": np.float32([[0.1, 0.2]])}
    style = map_style(planes, signed=True)
    assert -style["vmin"] == style["vmax"] == pytest.approx(0.4, abs=1e-3)
    shown = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    darker, zero, brighter = shown.to_rgba([-0.4, 0.0, 0.4])[:, :3]
    assert np.ptp(zero) < 0.01, "grey"
    # blue against yellow and red: the axis that red-green blindness leaves
    assert darker[2] - darker[0] > 0.3
    assert brighter[0] - brighter[2] > 0.3
    assert zero.max() < min(darker.max(), brighter.max()), "what deviates is brighter, as in magma"
    plain = map_style(planes, signed=False)
    assert (plain["cmap"], plain["vmin"]) == ("magma", 0)


@pytest.mark.parametrize("signed", [True, False])
def test_a_case_s_picture_shows_the_sign(box, signed):
    empty = np.zeros((20, 20), bool)
    image = box((20, 20), (2, 18), (2, 18)) * np.float32(0.5)
    half = np.where(np.arange(20) < 10, np.float32(-0.3), np.float32(0.3))
    maps = {"Residual": np.tile(half, (20, 1))}
    facts = {
        "reference": None,
        "predictions": {"u": empty},
        "target": empty,
        "edges": tuple("RLAP"),
    }
    view = CaseView("a", 0, 1, image, maps, signed, **facts, pixel_mm=(1.0, 1.0))
    picture = imread(io.BytesIO(case_picture(view, {"u": "white"})), format="png")[..., :3]
    found = [np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02 for colour in (DARKER, BRIGHTER)]
    sides = [mask.sum() > 2000 for mask in found]  # more than a patch of the legend
    assert sides == [signed, signed]


def test_every_line_of_a_legend_is_there_on_its_dark_ground_in_its_experiment_s_colour(box):
    empty, width = np.zeros((20, 20), bool), 15
    facts = {"reference": None, "target": empty, "edges": tuple("RLAP"), "pixel_mm": (1.0, 1.0)}
    image = box((20, 20), (2, 18), (2, 18)) * np.float32(0.5)
    colours = colours_of("zabcdefg", ON_BLACK)
    # the case lacks the first experiment, whose colour no other takes
    predictions = dict.fromkeys("abcdefg", empty)
    view = CaseView("a", 0, 1, image, {}, False, predictions=predictions, **facts)
    legend = imread(io.BytesIO(case_picture(view, colours)), format="png")[-90:, :, :3]
    dark = np.abs(legend - to_rgb(GROUND)).max(axis=-1) < 0.02
    for colour in ON_BLACK[1:8]:
        line = np.abs(legend - to_rgb(colour)).max(axis=-1) < 0.02
        ends = line.shape[1] - width
        level = np.all([line[:, start : ends + start] for start in range(width)], axis=0)
        assert (level[:-3] & dark[3:, :ends]).any(), colour


def test_a_case_without_reference_and_prediction_is_drawn_without_legend(box):
    image = box((20, 20), (2, 18), (2, 18)) * np.float32(0.5)
    nothing = {"reference": None, "predictions": {}, "target": np.zeros((20, 20), bool)}
    facts = {**nothing, "edges": tuple("RLAP"), "pixel_mm": (1.0, 1.0)}
    picture = case_picture(CaseView("a", 0, 1, image, {}, False, **facts), {})
    assert imread(io.BytesIO(picture), format="png")[..., :3].min() < 0.1


@pytest.mark.parametrize("palette", [ON_BLACK, ON_WHITE])
def test_the_ten_methods_of_table_1_have_a_colour_each(palette):
    colours = [to_rgb(colour) for colour in colours_of("abcdefghij", palette).values()]
    apart = [math.dist(one, other) for one in colours for other in colours if one is not other]
    assert min(apart) > 0.2


def test_body_window_leaves_air_out_and_keeps_an_empty_slice_whole(box):
    image = box((100, 80), (20, 60), (10, 70)) * 0.5
    assert body_window(image, (2.0, 1.0)) == pytest.approx((7.6, 72.4, 34.0, 126.0))
    assert body_window(np.zeros((100, 80)), (2.0, 1.0)) == (0, 80, 0, 200)


def test_close_up_stays_square_and_inside(box):
    corner = box((100, 100), (0, 4), (96, 100))
    left, right, top, bottom = close_up(corner, (1.0, 1.0))
    assert (right - left, bottom - top) == (40, 40)
    assert (right, top) == (100, 0)
    wide = box((100, 100), (40, 60), (30, 70))
    left, right, top, bottom = close_up(wide, (1.0, 1.0))
    assert (left, right, top, bottom) == pytest.approx((6, 94, 6, 94))
