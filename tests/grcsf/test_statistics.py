"""Statistics against scipy, hand-made tables and textbook numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from grcsf import statistics
from grcsf.statistics import (
    bootstrap_interval,
    holm,
    mean_of_group_means,
    paired_wilcoxon,
    smallest_p,
    standard_deviation,
)

NAN = math.nan


def test_mean_of_group_means_weighs_groups_alike():
    values = [1.0, 0.0, NAN, 0.4, 0.6, 0.8]
    grouped = mean_of_group_means(values, ["a", "b", "b", "b", "c", "c"])
    assert grouped.by_group == pytest.approx({"a": 1.0, "b": 0.2, "c": 0.7})
    assert grouped.mean == pytest.approx(1.9 / 3)
    assert grouped.undefined == 1
    # a group without defined values shows and is left out
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
    narrow = bootstrap_interval(values, seed=3, confidence=0.8, resamples=2000)
    assert low < narrow.low < narrow.high < high


def test_bootstrap_in_parts_has_the_bits_of_one_draw_by_scipy(monkeypatch):
    rng = np.random.default_rng(1)
    samples = [rng.random(70), rng.normal(size=31) ** 3]
    expected = stats.bootstrap(
        samples,
        lambda *drawn, axis: np.mean([each.mean(axis=axis) for each in drawn], axis=0),
        n_resamples=500,
        rng=np.random.default_rng(3),
    ).confidence_interval
    groups = ["a"] * 70 + ["b"] * 31
    given = (np.concatenate(samples).tolist(), groups)
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", 100)
    assert bootstrap_interval(*given, seed=3, resamples=500) == tuple(expected)
    # of very many patients, means without one of them are the sum's without it
    monkeypatch.setattr(statistics, "SUMMED_APART", 0)
    assert bootstrap_interval(*given, seed=3, resamples=500) == pytest.approx(tuple(expected))


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
        *(([], None), ([0.5], None), ([0.5, NAN], None), ([0.3, 0.3, 0.3], None)),
        *(([0.1, 0.2, 0.3], [*"aab"]), ([0.1, 0.1, 0.3, 0.3], [*"aabb"])),
    ],
)
def test_bootstrap_without_spread_is_undefined(values, groups):
    assert all(math.isnan(bound) for bound in bootstrap_interval(values, groups, seed=0))


def test_wilcoxon_by_hand():
    # All six differences are positive: W = 0, two-sided p = 2 / 2^6.
    baseline = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, NAN, 0.7]
    better = [0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.9, NAN]
    test = paired_wilcoxon(better, baseline)
    assert test == pytest.approx((2 / 64, 6, 6, 2 / 64))
    assert paired_wilcoxon(baseline, better) == pytest.approx(test)
    # One loss: the losses have rank sum 1; 2 of the 2^5 sign patterns reach 0 or 1: p = 2 · 2 / 32.
    test = paired_wilcoxon([-1, 2, 3, 4, 5], [0, 0, 0, 0, 0])
    assert test.p_value == pytest.approx(4 / 32)


def test_wilcoxon_drops_pairs_without_difference():
    # Sixty equal pairs change nothing: eight gains of different size, p = 2 / 2^8, and what 68
    # pairs could have reached does not count.
    test = paired_wilcoxon([*range(1, 9)] + [0] * 60, [0] * 68)
    assert test == pytest.approx((2 / 256, 68, 8, 2 / 256))


def test_wilcoxon_without_difference_or_pairs():
    assert paired_wilcoxon([0.3, 0.4], [0.3, 0.4]) == (1.0, 2, 0, 1.0)
    assert paired_wilcoxon([NAN], [0.3])[:2] == pytest.approx((NAN, 0), nan_ok=True)
    assert paired_wilcoxon([0.4], [0.3]).p_value == smallest_p(1) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.02, NAN, 0.03]) == pytest.approx([0.04, NAN, 0.04], nan_ok=True)
    assert holm([]).size == 0


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
    ],
)
def test_refuses_what_it_cannot_compute(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_standard_deviation_is_that_of_a_sample_and_of_defined_values():
    assert standard_deviation([0.2, 0.4, NAN, 0.9]) == pytest.approx(
        np.std([0.2, 0.4, 0.9], ddof=1)
    )
    assert math.isnan(standard_deviation([0.2, NAN]))
