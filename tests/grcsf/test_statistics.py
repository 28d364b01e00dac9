"""Statistics against scipy, sklearn, hand-made tables and textbook numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from grcsf.statistics import (
    bootstrap_interval,
    holm,
    icc_absolute_agreement,
    linear_weighted_kappa,
    mean_of_group_means,
    paired_wilcoxon,
    smallest_p,
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
shares = st.floats(0, 1)
# A shared machine may stall any example.
untimed = settings(deadline=None)


def test_mean_of_group_means_weighs_groups_alike():
    values = [1.0, 0.0, NAN, 0.4, 0.6, 0.8]
    grouped = mean_of_group_means(values, ["a", "b", "b", "b", "c", "c"])
    assert grouped.by_group == pytest.approx({"a": 1.0, "b": 0.2, "c": 0.7})
    assert grouped.mean == pytest.approx(1.9 / 3)
    assert grouped.undefined == 1


def test_a_group_without_defined_values_shows_and_is_left_out():
    grouped = mean_of_group_means([NAN, NAN, 0.5], [1, 1, 2])
    assert math.isnan(grouped.by_group[1])
    assert grouped.mean == 0.5
    assert grouped.undefined == 2


def test_bootstrap_agrees_with_scipy_and_repeats():
    values = [0.1, 0.4, 0.35, 0.8, 0.75, 0.2, 0.9]
    low, high = bootstrap_interval([*values, NAN], seed=3, resamples=2000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert bootstrap_interval(values, seed=3, resamples=2000) == (low, high)
    assert bootstrap_interval(values, seed=4, resamples=2000) != (low, high)
    assert 0.1 <= low < np.mean(values) < high <= 0.9


def test_bootstrap_is_wider_at_higher_confidence():
    values = np.random.default_rng(0).normal(size=30).tolist()
    narrow = bootstrap_interval(values, seed=0, confidence=0.8, resamples=2000)
    wide = bootstrap_interval(values, seed=0, confidence=0.99, resamples=2000)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_bootstrap_over_groups_encloses_the_mean_of_their_means():
    # The large group is high and the small one low: the plain mean lies near the large one.
    rng = np.random.default_rng(1)
    values = [*rng.normal(10, 1, 60), *rng.normal(0, 1, 6)]
    groups = ["large"] * 60 + ["small"] * 6
    low, high = bootstrap_interval(values, groups, seed=0, resamples=2000)
    assert low < mean_of_group_means(values, groups).mean < high
    assert high < np.mean(values)
    # Groups are resampled apart, so the difference between them is no spread.
    assert high - low < 1.5


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([], None),
        ([0.5], None),
        ([0.5, NAN], None),
        ([0.3, 0.3, 0.3], None),
        ([0.1, 0.2, 0.3], ["a", "a", "b"]),
        ([0.1, 0.1, 0.3, 0.3], ["a", "a", "b", "b"]),
    ],
    ids=["none", "one", "one defined", "constant", "a group of one", "constant groups"],
)
def test_bootstrap_without_spread_is_undefined(values, groups):
    assert all(math.isnan(bound) for bound in bootstrap_interval(values, groups, seed=0))


def test_wilcoxon_by_hand():
    # All six differences are positive: W = 0, two-sided p = 2 / 2^6.
    baseline = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, NAN, 0.7]
    better = [0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.9, NAN]
    test = paired_wilcoxon(better, baseline)
    assert test == pytest.approx((2 / 64, 6, 2 / 64))
    assert paired_wilcoxon(baseline, better) == pytest.approx(test)


def test_wilcoxon_with_one_loss_by_hand():
    # The losses have rank sum 1; 2 of the 2^5 sign patterns reach 0 or 1: p = 2 · 2 / 32.
    test = paired_wilcoxon([-1, 2, 3, 4, 5], [0, 0, 0, 0, 0])
    assert test.p_value == pytest.approx(4 / 32)


def test_wilcoxon_drops_pairs_without_difference():
    # Sixty equal pairs change nothing: eight gains of different size, p = 2 / 2^8.
    gains = [1, 2, 3, 4, 5, 6, 7, 8]
    test = paired_wilcoxon(gains + [0] * 60, [0] * 68)
    assert test.p_value == pytest.approx(2 / 256)
    assert test.pairs == 68


def test_wilcoxon_without_difference_or_pairs():
    assert paired_wilcoxon([0.3, 0.4], [0.3, 0.4]) == (1.0, 2, 0.5)
    test = paired_wilcoxon([NAN], [0.3])
    assert math.isnan(test.p_value)
    assert test.pairs == 0
    assert paired_wilcoxon([0.4], [0.3]).p_value == smallest_p(1) == 1


@untimed
@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=9))
def test_wilcoxon_never_beats_the_smallest_p(pairs):
    first, second = zip(*pairs, strict=True)
    test = paired_wilcoxon(first, second)
    assert test.smallest_p <= test.p_value * (1 + 1e-9)
    assert test.p_value <= 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)
    assert holm([]).size == 0


@untimed
@given(st.lists(shares, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_holm_stays_between_p_and_bonferroni_in_any_order(p_values, random):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values))).all()
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in order]) == pytest.approx(adjusted[order])


@untimed
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


def test_icc_of_the_textbook_table():
    assert icc_absolute_agreement(SHROUT_FLEISS) == pytest.approx(0.29, abs=0.005)


def test_icc_from_an_analysis_of_variance_by_hand():
    # Two raters, the second always one higher. Row means 1.5, 3.5, 5.5, grand mean 3.5:
    # MSR = 2·(4 + 0 + 4)/2 = 8; column means 3, 4: MSC = 3·(0.25 + 0.25)/1 = 1.5; MSE = 0.
    icc = icc_absolute_agreement([[1, 2], [3, 4], [5, 6]])
    assert icc == pytest.approx((8 - 0) / (8 + 0 + 2 / 3 * 1.5))


def test_icc_leaves_out_subjects_with_a_gap():
    assert icc_absolute_agreement([*SHROUT_FLEISS, [1, NAN, 2, 3]]) == pytest.approx(
        icc_absolute_agreement(SHROUT_FLEISS)
    )


@pytest.mark.parametrize("ratings", [[[1, 2]], [[1], [2]], [[3, 3], [3, 3]]])
def test_icc_without_subjects_raters_or_variance_is_undefined(ratings):
    assert math.isnan(icc_absolute_agreement(ratings))


@untimed
@given(
    st.lists(st.tuples(*[st.integers(0, 500)] * 2), min_size=3, max_size=20),
    st.randoms(use_true_random=False),
)
def test_icc_is_at_most_one_and_blind_to_order(ratings, random):
    icc = icc_absolute_agreement(ratings)
    shuffled = [row[::-1] for row in random.sample(ratings, len(ratings))]
    assert icc_absolute_agreement(shuffled) == pytest.approx(icc, nan_ok=True)
    assert math.isnan(icc) or icc <= 1 + 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_of_group_means([1.0, 2.0], ["a"]), "shorter"),
        (lambda: bootstrap_interval([1.0, 2.0], ["a"], seed=0), "shorter"),
        (lambda: bootstrap_interval([1.0, 2.0], seed=0, confidence=95), "confidence"),
        (lambda: bootstrap_interval([1.0, 2.0], seed=0, resamples=0), "positive"),
        (lambda: paired_wilcoxon([1.0], [1.0, 2.0]), "equal lengths"),
        (lambda: smallest_p(-1), "0 or more"),
        (lambda: holm([0.5, 1.5]), r"\[0, 1\]"),
        (lambda: linear_weighted_kappa([0], [0, 1], 2), "equal lengths"),
        (lambda: linear_weighted_kappa([0], [2], 2), "0 … 1"),
        (lambda: icc_absolute_agreement([1, 2, 3]), "shape"),
    ],
)
def test_refuses_what_it_cannot_compute(call, message):
    with pytest.raises(ValueError, match=message):
        call()
