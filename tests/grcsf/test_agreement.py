"""Agreement against sklearn, hand-made tables and textbook numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from grcsf.agreement import (
    icc_absolute_agreement,
    icc_interval,
    kappa_interval,
    limits_of_agreement,
    linear_weighted_kappa,
)

NAN = math.nan
# Shrout and Fleiss 1979, Table 2: six targets, four judges.
SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_kappa_agrees_with_sklearn(pairs):
    first, second = (list(rater) for rater in zip(*pairs, strict=True))
    kappa = linear_weighted_kappa(first, second, categories=5)
    if len({*first, *second}) == 1:
        assert math.isnan(kappa)
    else:
        expected = cohen_kappa_score(first, second, weights="linear", labels=range(5))
        assert kappa == pytest.approx(expected)
        assert kappa == pytest.approx(linear_weighted_kappa(second, first, categories=5))
        assert kappa <= 1


def test_kappa_by_hand():
    first, second = [0, 0, 1, 2], [0, 1, 1, 2]
    # Chance: Σ|i − j|·n_i·m_j / 4² with n = (2, 1, 1), m = (1, 2, 1):
    # row 0: 2·(0·1 + 1·2 + 2·1) = 8; row 1: 1·(1 + 0 + 1) = 2; row 2: 1·(2 + 2 + 0) = 4; 14/16.
    assert linear_weighted_kappa(first, second, categories=3) == pytest.approx(1 - 4 / 14)
    assert linear_weighted_kappa(first, first, categories=3) == 1
    assert math.isnan(linear_weighted_kappa([], [], categories=3))


def test_icc_of_the_textbook_table_leaves_out_subjects_with_a_gap():
    icc = icc_absolute_agreement(SHROUT_FLEISS)
    assert icc == pytest.approx(0.29, abs=0.005)
    assert icc_absolute_agreement([*SHROUT_FLEISS, [1, NAN, 2, 3]]) == pytest.approx(icc)


def test_icc_from_an_analysis_of_variance_by_hand():
    # Two raters, the second always one higher. Row means 1.5, 3.5, 5.5, grand mean 3.5:
    # MSR = 2·(4 + 0 + 4)/2 = 8; column means 3, 4: MSC = 3·(0.25 + 0.25)/1 = 1.5; MSE = 0.
    icc = icc_absolute_agreement([[1, 2], [3, 4], [5, 6]])
    assert icc == pytest.approx((8 - 0) / (8 + 0 + 2 / 3 * 1.5))


def test_icc_without_subjects_raters_or_variance_and_intervals_without_error_are_undefined():
    for ratings in ([[1, 2]], [[1], [2]], [[3, 3], [3, 3]]):
        assert math.isnan(icc_absolute_agreement(ratings))
    for ratings in ([[1, 2]], [[3, 3], [3, 3]], [[1, 1], [2, 2], [5, 5]], [[1, 2], [1, 2]]):
        assert all(map(math.isnan, icc_interval(ratings)))


def test_icc_interval_of_the_textbook_table():
    # R's psych::ICC gives 0.019 to 0.761 for these
    interval = icc_interval(SHROUT_FLEISS)
    assert interval == pytest.approx((0.019, 0.761), abs=0.001)
    narrow = icc_interval(SHROUT_FLEISS, confidence=0.5)
    assert interval.low < narrow.low < 0.29 < narrow.high < interval.high


@pytest.mark.filterwarnings("error")
def test_icc_interval_of_two_subjects_overflows_nowhere():
    low, high = icc_interval([[3.58, 59.27], [36.84, 15.27]])
    assert -math.inf < low < high < 0


def test_kappa_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(3)
    hits = []
    for seed in range(60):
        truth = random.integers(0, 3, 60)
        actual = np.where(random.random(60) < 0.3, random.integers(0, 3, 60), truth)
        low, high = kappa_interval(truth, actual, 3, seed=seed, confidence=0.9, resamples=300)
        hits.append(low <= 0.7 <= high)  # 30 % of the votes are chance
    assert 0.78 <= np.mean(hits) <= 0.98


def test_kappa_interval_repeats_and_needs_two_kinds():
    pairs = [0, 1, 2, 2, 1], [0, 1, 1, 2, 1]
    interval = kappa_interval(*pairs, 3, seed=1, resamples=500)
    assert interval == kappa_interval(*pairs, 3, seed=1, resamples=500)
    assert -1 <= interval.low < linear_weighted_kappa(*pairs, 3) <= interval.high <= 1
    assert all(map(math.isnan, kappa_interval([1, 1], [1, 1], 3, seed=0)))
    assert all(map(math.isnan, kappa_interval([1], [2], 3, seed=0)))


def test_limits_of_agreement_by_hand():
    # differences 1, 3, 2: mean 2, standard deviation 1
    limits = limits_of_agreement([11, 23, 32], [10, 20, 30])
    assert limits == pytest.approx((2, 2 - 1.96, 2 + 1.96))
    assert limits_of_agreement([5], [3])[:2] == pytest.approx((2, NAN), nan_ok=True)
    assert all(map(math.isnan, limits_of_agreement([], [])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_weighted_kappa([0], [0, 1], 2), "equal lengths"),
        (lambda: linear_weighted_kappa([0], [2], 2), "0 … 1"),
        (lambda: icc_absolute_agreement([1, 2, 3]), "shape"),
        (lambda: icc_interval(SHROUT_FLEISS, confidence=95), "confidence"),
        (lambda: kappa_interval([0, 1], [0, 1], 2, seed=0, confidence=0), "confidence"),
        (lambda: limits_of_agreement([1], [1, 2]), "equal lengths"),
    ],
)
def test_refuses_what_it_cannot_compute(call, message):
    with pytest.raises(ValueError, match=message):
        call()
