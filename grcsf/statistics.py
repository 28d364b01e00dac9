"""Statistics over patients: means by group, intervals, paired tests; and spread over repeats.

Undefined values (nan) are left out; the results say how many.
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from grcsf.metrics import mean_defined

Vector = npt.NDArray[np.float64]
DRAWN_AT_ONCE = 2**20  # patients of bootstrap samples, 8 MB of places and 8 of values
SUMMED_APART = 20_000  # values up to which each mean without one is summed by itself


class GroupedMean(NamedTuple):
    """A mean of groups' means; a group without a defined value has the mean nan."""

    mean: float
    by_group: dict[Hashable, float]
    undefined: int
    """Number of values left out because they are nan."""


def mean_of_group_means(values: Sequence[float], groups: Sequence[Hashable]) -> GroupedMean:
    """Mean within each group, then the mean of the groups [ATLAS's four subsets, Table 1].

    A group without a defined value is left out of the mean and shows as nan in ``by_group``.

    Args:
        values: (n,) one per patient, nan = undefined.
        groups: (n,) each patient's group.

    Raises:
        ValueError: The lengths differ.
    """
    members = _by_group(values, groups)
    means = {group: mean_defined(listed) for group, listed in members.items()}
    by_group = {group: mean for group, (mean, _) in means.items()}
    undefined = sum(missing for _, missing in means.values())
    return GroupedMean(mean_defined(by_group.values())[0], by_group, undefined)


def _by_group(values: Sequence[float], groups: Sequence[Hashable]) -> dict[Hashable, list[float]]:
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(float(value))
    return members


def standard_deviation(values: Iterable[float]) -> float:
    """Sample standard deviation (n − 1) of the defined values; nan of fewer than two."""
    defined = [value for value in values if not math.isnan(value)]
    return statistics.stdev(defined) if len(defined) > 1 else math.nan


class Interval(NamedTuple):
    """A confidence interval; nan bounds where it is not defined."""

    low: float
    high: float


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1), such as a percentage.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}")


def bootstrap_interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 9999,
) -> Interval:
    """BCa bootstrap interval, over patients, of the mean or of the mean of group means.

    Args:
        values: (n,) one per patient; nan is left out.
        groups: (n,) each patient's group, resampled apart, or None for the plain mean.
        seed: Seed of the resampling.
        confidence: In (0, 1).
        resamples: Number of bootstrap samples.

    Returns:
        The interval; nan bounds if a group has fewer than 2 defined values or if all groups are
        constant, where BCa is not defined.

    Raises:
        ValueError: The lengths differ, or a setting is out of range.
    """
    check_confidence(confidence)
    members = _by_group(values, [None] * len(values) if groups is None else groups)
    samples = [_defined(listed) for listed in members.values()]
    samples = [sample for sample in samples if sample.size]
    if resamples < 1:
        raise ValueError(f"resamples must be a positive number, found {resamples}")
    if not samples or min(map(len, samples)) < 2 or not any(np.ptp(s) > 0 for s in samples):
        return Interval(math.nan, math.nan)
    from scipy import stats  # imported here: half as long as torch takes

    rng = np.random.default_rng(seed)
    drawn = np.mean([_resampled_means(sample, resamples, rng) for sample in samples], axis=0)
    low, high = stats.quantile(drawn, _bca_levels(samples, drawn, confidence))
    return Interval(float(low), float(high))


def resampled(
    size: int, resamples: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Places of bootstrap samples, as (some of the samples, size), until all are drawn.

    They are those that one draw of all would give, which for many patients takes gigabytes.
    """
    at_once = max(1, DRAWN_AT_ONCE // size)
    for start in range(0, resamples, at_once):
        yield rng.integers(0, size, (min(at_once, resamples - start), size))


def _resampled_means(sample: Vector, resamples: int, rng: np.random.Generator) -> Vector:
    parts = [sample[places].mean(axis=-1) for places in resampled(sample.size, resamples, rng)]
    return np.concatenate(parts)


def _bca_levels(samples: Sequence[Vector], drawn: Vector, confidence: float) -> Vector:
    """The two quantiles of the drawn means that bound the BCa interval [Efron and Tibshirani 14.3].

    In scipy.stats.bootstrap's order of operations, so that the bits are the same.
    """
    from scipy.special import ndtr, ndtri

    mean = np.mean([np.mean(sample) for sample in samples])
    below = (np.count_nonzero(drawn < mean) + np.count_nonzero(drawn <= mean)) / (2 * drawn.size)
    bias = ndtri(below)
    influences = []
    for place, sample in enumerate(samples):
        means = [np.full(sample.size, np.mean(other)) for other in samples]
        means[place] = _means_without_each(sample)
        without = np.mean(means, axis=0)
        influences.append((sample.size - 1) * (np.mean(without) - without))
    cubes = sum(np.sum(each**3) / float(each.size) ** 3 for each in influences)
    squares = sum(np.sum(each**2) / float(each.size) ** 2 for each in influences)
    acceleration = 1 / 6 * cubes / squares**1.5
    tail = ndtri((1 - confidence) / 2)
    ends = np.array([bias + tail, bias - tail])
    levels: Vector = ndtr(bias + ends / (1 - acceleration * ends))
    return levels


def _means_without_each(sample: Vector) -> Vector:
    """The mean of a sample without each of its values in turn."""
    if sample.size > SUMMED_APART:
        return np.asarray((sample.sum() - sample) / (sample.size - 1))
    return np.array([np.mean(np.delete(sample, place)) for place in range(sample.size)])


def _defined(values: npt.ArrayLike) -> Vector:
    listed = np.asarray(values, dtype=np.float64)
    return listed[~np.isnan(listed)]


class PairedTest(NamedTuple):
    """A two-sided paired test."""

    p_value: float
    pairs: int
    """Pairs of two defined values."""
    differing: int
    """Pairs whose values differ; only they enter the test."""
    smallest_p: float
    """Smallest p that so many differing pairs can reach; 1 if none differs, nan without pairs."""


def paired_wilcoxon(values: Sequence[float], baseline: Sequence[float]) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of a method against a baseline, patient by patient.

    Pairs without difference are dropped before ranking (Wilcoxon's own treatment).

    Args:
        values: (n,) one per patient, nan = undefined.
        baseline: (n,) the same patients in the same order.

    Returns:
        p (1 if no pair differs, nan without a defined pair), the numbers of pairs, and the smallest
        p that the differing pairs can reach.

    Raises:
        ValueError: The lengths differ.
    """
    if len(values) != len(baseline):
        raise ValueError(f"pairs need equal lengths, found {len(values)} and {len(baseline)}")
    differences = _defined(np.subtract(values, baseline, dtype=np.float64))
    pairs = differences.size
    # Dropped here, because scipy leaves its exact distribution where zeros remain.
    differing = differences[differences != 0]
    if differing.size == 0:
        p = 1.0 if pairs else math.nan
        return PairedTest(p, pairs, 0, p)
    from scipy import stats  # see above

    p_value = stats.wilcoxon(differing, alternative="two-sided").pvalue
    return PairedTest(float(p_value), pairs, differing.size, smallest_p(differing.size))


def smallest_p(pairs: int) -> float:
    """Smallest two-sided p of a signed-rank test with n pairs: 2 / 2^n; nan for n = 0.

    Raises:
        ValueError: The number is negative.
    """
    if pairs < 0:
        raise ValueError(f"the number of pairs must be 0 or more, found {pairs}")
    return math.ldexp(2.0, -pairs) if pairs else math.nan


def holm(p_values: Sequence[float]) -> Vector:
    """Holm's step-down adjustment of a family of p-values.

    Args:
        p_values: (m,) in [0, 1]; nan stays nan and is no member of the family.

    Returns:
        (m,) adjusted p-values in the order given: max over smaller-or-equal p of
        (m − rank + 1) · p, at most 1.

    Raises:
        ValueError: A value lies outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    if (given < 0).any() or (given > 1).any():
        raise ValueError(f"p-values must lie in [0, 1], found {given.tolist()}")
    order = np.argsort(given)[: np.count_nonzero(~np.isnan(given))]
    scaled = given[order] * np.arange(order.size, 0, -1)
    adjusted = np.full(given.shape, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted
