"""Agatston and volume scores, by hand and against scikit-image; risk groups at their bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from skimage import measure

from grcsf.agatston import (
    RISK_GROUPS,
    CalciumScore,
    agatston_weight,
    artery_scores,
    calcium_score,
    risk_group,
)
from tests.grcsf.volumes import SPACING, calcium_masks, hu_volumes, line


def test_agatston_and_volume_by_hand():
    hu = np.full((2, 4, 4), 40)
    hu[0, 0, :4] = (150, 250, 199, 130)
    hu[1, 0, :2] = 150
    hu[1, 3, 3] = 400
    everything = np.ones(hu.shape, bool)
    # Slice 0: 3 pixels of 0.25 mm², maximum 250 → 1.5. Slice 1: 2 pixels, maximum 150 → 0.5;
    # 1 pixel, maximum 400 → 1. The first two are one lesion, weighed slice by slice.
    score = calcium_score(everything, hu, SPACING)
    assert score.agatston == pytest.approx(3.0)
    assert score.volume_mm3 == pytest.approx(6 * 0.75)
    thinner = calcium_score(everything, hu, (1.5, 0.5, 0.5))
    assert thinner.agatston == pytest.approx(1.5)
    unscaled = calcium_score(everything, hu, (1.5, 0.5, 0.5), reference_spacing_mm=None)
    assert unscaled.agatston == pytest.approx(3.0)
    left = everything.copy()
    left[:, :, 2:] = False
    # Within the mask only: 2 pixels × 2 and 2 pixels × 1.
    assert calcium_score(left, hu, SPACING).agatston == pytest.approx(1.5)


def test_parts_of_a_lesion_in_one_slice_share_its_maximum():
    hu = np.full((2, 1, 3), 150)
    hu[0, 0, 1] = 0
    hu[0, 0, 2] = 450
    score = calcium_score(hu > 130, hu, (3.0, 1.0, 1.0))
    assert score.agatston == pytest.approx(2 * 4 + 3 * 1)


def test_weights_at_their_bounds():
    maxima = np.array([131, 199, 199.9, 200, 299, 300, 399, 399.9, 400, 3000])
    assert agatston_weight(maxima).tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4]


@given(calcium_masks, hu_volumes)
def test_agatston_agrees_with_regions_taken_slice_by_slice(mask, hu):
    lesions = measure.label(mask & (hu > 130), connectivity=1)
    expected = 0.0
    for z in range(len(hu)):
        for region in measure.regionprops(lesions[z], intensity_image=hu[z]):
            expected += region.num_pixels * 0.25 * min(4, int(region.intensity_max) // 100)
    score = calcium_score(mask, hu, SPACING)
    assert score.agatston == pytest.approx(expected)
    assert score.volume_mm3 == pytest.approx(np.count_nonzero(lesions) * 0.75)


def test_scores_by_artery_add_up():
    hu = line(200, 0, 350, 350, 0, 450, 130)
    labels = line(1, 0, 3, 3, 3, 0, 1)
    scores = artery_scores(labels, hu, SPACING)
    assert set(scores) == {1, 3}
    assert scores[1] == CalciumScore(pytest.approx(0.5), pytest.approx(0.75))
    assert scores[3] == CalciumScore(pytest.approx(1.5), pytest.approx(1.5))
    total = sum(scores.values(), start=CalciumScore())
    assert total == CalciumScore(pytest.approx(2.0), pytest.approx(2.25))
    assert artery_scores(np.zeros_like(labels), hu, SPACING) == {}


def test_risk_groups_at_their_bounds():
    groups = [[0], [0.01, 10], [10.5, 100], [100.2, 400], [400.5, math.inf]]
    assert RISK_GROUPS == ("0", "1-10", "11-100", "101-400", ">400")
    for group, scores in enumerate(groups):
        assert [risk_group(score) for score in scores] == [group] * len(scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calcium_score(line(1) > 0, line(200), (1, 1)), "spacing"),
        (
            lambda: calcium_score(line(1) > 0, line(200), SPACING, reference_spacing_mm=0),
            "reference spacing",
        ),
        (lambda: artery_scores(line(-1), line(200), SPACING), "≥ 0"),
        (lambda: risk_group(-1), "0 or more"),
        (lambda: risk_group(math.nan), "0 or more"),
    ],
)
def test_refuses_what_it_cannot_judge(call, message):
    with pytest.raises(ValueError, match=message):
        call()
