"""Lesion-wise scores, sizes and their groups."""

import math

import numpy as np
import pytest
from hypothesis import given
from skimage import measure

from grcsf.components import filter_components, label_lesions, voxel_volume_mm3
from grcsf.lesions import (
    LesionCounts,
    Tally,
    lesion_count_difference,
    lesion_f1,
    lesion_scores,
    lesion_tally,
    pool_lesions,
    quartile_groups,
    size_group,
    tally_lesions,
    volume_difference_mm3,
)
from tests.grcsf.volumes import SPACING, lesion_masks, row


def test_lesion_tally_by_hand():
    prediction = row("##.#####..#.#.")
    reference = row(".#.#...#....##")
    # Found: all four lesions of the reference, two of them under one predicted lesion.
    assert lesion_tally(prediction, reference) == Tally(tp=4, fp=1, fn=0)
    assert lesion_f1(prediction, reference) == pytest.approx(8 / 9)
    # The other way round: of the four now in the reference, one is missed and none invented.
    assert lesion_tally(reference, prediction) == Tally(tp=3, fp=0, fn=1)
    assert lesion_f1(reference, prediction) == pytest.approx(6 / 7)


def test_lesion_f1_of_empty_and_equal_masks():
    assert lesion_f1(row("...."), row("....")) == lesion_f1(row("#.#."), row("#.#.")) == 1
    assert lesion_f1(row("#..."), row("....")) == lesion_f1(row("...."), row("#.#.")) == 0


@given(lesion_masks, lesion_masks)
def test_lesion_tally_counts_every_lesion_once(prediction, reference):
    tally = lesion_tally(prediction, reference)
    lesions, number = measure.label(reference, connectivity=1, return_num=True)
    assert tally.tp + tally.fn == number
    assert tally.tp == sum(prediction[lesions == label + 1].any() for label in range(number))
    assert 0 <= tally.fp <= label_lesions(prediction)[1]
    assert 0 <= lesion_f1(prediction, reference) <= 1


def test_differences_by_hand():
    prediction, reference = row("#.#.#..."), row(".#######")
    assert lesion_count_difference(prediction, reference) == 2
    assert lesion_count_difference(reference, prediction) == 2
    assert volume_difference_mm3(prediction, reference, SPACING) == pytest.approx(3.0)
    assert volume_difference_mm3(reference, prediction, SPACING) == pytest.approx(3.0)


def test_size_groups_of_figure_9():
    groups = [size_group(voxels) for voxels in (1, 100, 101, 1000, 1001)]
    assert groups == ["1-100", "1-100", "101-1000", "101-1000", ">1000"]


def test_quartiles():
    assert quartile_groups([8, 1, 7, 2, 6, 3, 5, 4]).tolist() == [4, 1, 4, 1, 3, 2, 3, 2]
    assert quartile_groups([5, 5, 5]).tolist() == [1, 1, 1]
    assert quartile_groups([]).tolist() == []


def test_pooled_scores_by_hand():
    # Two patients, lesions of 10, 30 mm³ and 5, 15, 40 mm³.
    first = tally_lesions(*map(np.array, ([10.0, 30.0], [True, False], [True, True])))
    second = tally_lesions(
        *map(np.array, ([5.0, 15.0, 40.0], [True, True, False], [False, True, False]))
    )
    assert first == LesionCounts(Tally(1, 0, 1), Tally(10, 0, 30))
    assert second == LesionCounts(Tally(1, 1, 0), Tally(15, 5, 0))
    expected = {"f1_volume": 50 / 85, "sensitivity_volume": 25 / 55, "ppv_volume": 25 / 30}
    expected |= {"sensitivity_lesions": 2 / 3, "ppv_lesions": 2 / 3}
    assert lesion_scores(pool_lesions([first, second])) == pytest.approx(expected)


def test_without_false_positives_only_sensitivity_is_defined():
    scores = lesion_scores(LesionCounts(Tally(1, 2, 1), Tally(10, 4, 30)).without_fp())
    defined = {name: score for name, score in scores.items() if not math.isnan(score)}
    assert defined == {"sensitivity_volume": 0.25, "sensitivity_lesions": 0.5}


def test_scores_without_any_lesion():
    assert set(lesion_scores(pool_lesions([])).values()) == {1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_lesions(np.zeros((2, 2), bool)), "shape"),
        (lambda: label_lesions(np.zeros((2, 2, 2))), "boolean"),
        (lambda: lesion_f1(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool)), "shape"),
        (lambda: voxel_volume_mm3((1, 1)), "spacing"),
        (lambda: voxel_volume_mm3((1, 0, 1)), "spacing"),
        (lambda: voxel_volume_mm3((1, math.nan, 1)), "spacing"),
        (lambda: filter_components(row("#"), (1, 1, 1), -1), "minimum volume"),
        (lambda: filter_components(row("#"), (1, 1, 1), math.nan), "minimum volume"),
        (lambda: size_group(0), "at least 1"),
        (lambda: quartile_groups([3, 0]), "at least 1"),
    ],
)
def test_refuses_what_it_cannot_measure(call, message):
    with pytest.raises(ValueError, match=message):
        call()
