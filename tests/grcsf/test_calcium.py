"""Calcium: candidates, votes, post-processing and matching, on volumes done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grcsf.calcium import (
    claim_candidates,
    find_candidates,
    match_lesions,
    postprocess_calcium,
    vote,
)
from grcsf.lesions import LesionCounts, Tally, lesion_scores, pool_lesions
from tests.grcsf.volumes import SPACING, calcium_masks, hu_volumes, labelings, line, row

choices = st.sampled_from(["labelled", "all"])


def test_hu_of_exactly_130_is_no_candidate():
    candidates, number = find_candidates(line(131, 130, 131, 131, 129))
    assert candidates.tolist() == [[[1, 0, 2, 2, 0]]]
    assert number == 2
    assert find_candidates(line(131, 130), threshold_hu=129)[0].tolist() == [[[1, 1]]]
    # candidates that touch by an edge are two
    hu = np.full((2, 2, 2), -100)
    hu[0, 0, 0] = hu[0, 1, 1] = hu[1, 0, 1] = 300
    assert find_candidates(hu)[1] == 3


@pytest.mark.parametrize(
    ("labels", "labelled", "everyone"),
    [
        ((0, 0, 0, 0), 0, 0),
        ((0, 0, 0, 3), 3, 0),
        ((0, 0, 3, 3), 3, 0),
        ((0, 3, 3, 3), 3, 3),
        ((2, 1, 1, 2), 1, 1),
        ((0, 0, 2, 1), 1, 0),
        ((3, 3, 1, 0), 3, 3),
    ],
)
def test_the_vote_by_hand(labels, labelled, everyone):
    hu = line(200, 200, 200, 200)
    assert (claim_candidates(line(*labels), hu, majority_over="labelled") == labelled).all()
    assert (claim_candidates(line(*labels), hu, majority_over="all") == everyone).all()


@given(labelings, hu_volumes, choices)
def test_the_vote_agrees_with_counting_and_claims_stay_when_claimed_again(
    labels, hu, majority_over
):
    candidates, number = find_candidates(hu)
    expected = []
    for candidate in range(1, number + 1):
        voters = labels[candidates == candidate]
        if majority_over == "labelled":
            voters = voters[voters > 0]
        expected.append(np.bincount(voters).argmax() if voters.size else 0)
    assert vote(labels, candidates, number, majority_over=majority_over).tolist() == expected
    claimed = claim_candidates(labels, hu, majority_over=majority_over)
    assert not claimed[hu <= 130].any()
    again = claim_candidates(claimed, hu, majority_over=majority_over)
    assert (again == claimed).all()


def test_plain_post_processing_by_hand():
    hu = line(200, 130, 200, 200, 200, 90, 131)
    prediction = line(1, 1, 0, 1, 1, 1, 1) > 0
    for options, expected in (
        ({}, "#..##.#"),
        ({"min_volume_mm3": 1.5}, "...##.."),  # a voxel has 0.75 mm³
        ({"threshold_hu": 129}, "##.##.#"),
    ):
        kept = postprocess_calcium(prediction, hu, SPACING, **options)
        assert (kept == row(expected)).all()


def test_growing_by_hand():
    hu = line(200, 130, 200, 200, 200, 90, 131)
    prediction = line(1, 1, 0, 0, 1, 1, 0) > 0
    for options, expected in (
        ({}, "#.###.."),
        ({"majority_over": "all"}, "#......"),
        ({"min_volume_mm3": 1}, "..###.."),
    ):
        grown = postprocess_calcium(prediction, hu, SPACING, grow=True, **options)
        assert (grown == row(expected)).all()


@given(calcium_masks, hu_volumes, st.floats(0, 5), st.booleans(), choices)
def test_post_processing_twice_is_once(prediction, hu, minimum, grow, majority_over):
    options = {"min_volume_mm3": minimum, "grow": grow, "majority_over": majority_over}
    once = postprocess_calcium(prediction, hu, SPACING, **options)
    assert (postprocess_calcium(once, hu, SPACING, **options) == once).all()
    assert not once[hu <= 130].any()
    if not grow:
        assert not (once & ~prediction).any()


def test_matching_by_hand():
    hu = line(200, 200, 0, 200, 0, 200, 200, 200, 0, 200)
    reference = line(1, 1, 0, 0, 0, 3, 3, 1, 0, 1)
    prediction = line(0, 1, 1, 1, 0, 1, 0, 0, 0, 0) > 0
    match = match_lesions(prediction, reference, hu, SPACING)
    # Candidates of 2, 1, 3 and 1 voxels of 0.75 mm³: found, invented, found, missed.
    assert match.total == LesionCounts(Tally(2, 1, 1), Tally(3.75, 0.75, 0.75))
    assert set(match.by_artery) == {1, 3}
    lad, rca = match.by_artery[1], match.by_artery[3]
    tallies = (lad.number, lad.volume_mm3, rca.number, rca.volume_mm3)
    assert [(tally.tp, tally.fn) for tally in tallies] == [(1, 1), (1.5, 0.75), (1, 0), (2.25, 0)]
    assert lesion_scores(lad)["sensitivity_volume"] == pytest.approx(2 / 3)
    assert math.isnan(lesion_scores(lad)["ppv_lesions"])
    # One voxel of three does not win the third candidate when background votes.
    match = match_lesions(prediction, reference, hu, SPACING, majority_over="all")
    assert match.total == LesionCounts(Tally(0, 1, 3), Tally(0, 0.75, 4.5))


def test_marks_outside_candidates_are_no_lesions():
    match = match_lesions(line(1, 0) > 0, line(0, 1), line(130, 100), SPACING)
    assert match.total == LesionCounts()
    assert match.by_artery == {}


@given(labelings, labelings, hu_volumes, choices)
def test_matching_is_mirrored_and_adds_up(first, second, hu, majority_over):
    matched = match_lesions(first, second, hu, SPACING, majority_over=majority_over)
    match = matched.total
    mirror = match_lesions(second, first, hu, SPACING, majority_over=majority_over).total
    assert match.number == Tally(mirror.number.tp, mirror.number.fn, mirror.number.fp)
    arteries = [counts.number for counts in matched.by_artery.values()]
    assert sum(number.tp for number in arteries) == match.number.tp
    assert sum(number.fn for number in arteries) == match.number.fn
    claimed = claim_candidates(second, hu, majority_over=majority_over)
    volume = match.volume_mm3.tp + match.volume_mm3.fn
    assert volume == pytest.approx(np.count_nonzero(claimed) * 0.75)
    assert all(
        math.isnan(score) or 0 <= score <= 1
        for score in lesion_scores(pool_lesions([match, mirror])).values()
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: claim_candidates(line(1), line(200), majority_over="most"), "majority_over"),
        (lambda: claim_candidates(line(1, 2), line(200)), "shape"),
        (lambda: claim_candidates(line(-1), line(200)), "≥ 0"),
        (lambda: claim_candidates(line(1) * 1.0, line(200)), "float64"),
        (lambda: postprocess_calcium(line(1), line(200), SPACING), "boolean"),
        (lambda: postprocess_calcium(line(1, 1) > 0, line(200), SPACING), "shape"),
    ],
)
def test_refuses_what_it_cannot_judge(call, message):
    with pytest.raises(ValueError, match=message):
        call()
