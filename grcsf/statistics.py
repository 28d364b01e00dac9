"""Statistics over patients: means by group, intervals, paired tests.

Undefined values (nan) are left out, and what is left out can be counted from the results. Interval
and test are those of `scipy.stats`, to the bit, which takes half as long to import as torch.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from grcsf.metrics import mean_defined

Vector = npt.NDArray[np.float64]


class GroupedMean(NamedTuple):
    """A mean of groups' means; a group without a defined value has the mean nan."""

    mean: float
    by_group: dict[Hashable, float]
    undefined: int
    """Values left out because they were nan."""


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


class Interval(NamedTuple):
    """A confidence interval; nan bounds where it is not defined."""

    low: float
    high: float


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
        seed: Of the resampling.
        confidence: In (0, 1).
        resamples: Number of bootstrap samples.

    Returns:
        The interval; nan bounds if a group has fewer than 2 defined values or if all groups are
        constant, where BCa is not defined.

    Raises:
        ValueError: The lengths differ, or a setting is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be positive, found {resamples}")
    members = _by_group(values, [None] * len(values) if groups is None else groups)
    samples = [_defined(listed) for listed in members.values()]
    samples = [sample for sample in samples if sample.size]
    if not samples or min(map(len, samples)) < 2 or not any(np.ptp(s) > 0 for s in samples):
        return Interval(math.nan, math.nan)
    return _bca(samples, seed, confidence, resamples)


def _bca(samples: list[Vector], seed: int, confidence: float, resamples: int) -> Interval:
    """Bias-corrected and accelerated interval (Efron and Tibshirani 1993, 14.3 and 15.4)."""
    rng = np.random.default_rng(seed)
    drawn = _mean_of_means(
        *(sample[rng.integers(sample.size, size=(resamples, sample.size))] for sample in samples)
    )
    mean = _mean_of_means(*samples)
    below = np.count_nonzero(drawn < mean) + np.count_nonzero(drawn <= mean)
    bias = ndtri(below / (2 * resamples))
    tail = ndtri((1 - confidence) / 2)
    reached = np.array([bias + tail, bias - tail])
    levels = ndtr(bias + reached / (1 - _acceleration(samples) * reached))
    if np.isnan(levels).any():  # all means lie on one side
        return Interval(math.nan, math.nan)
    low, high = _quantiles(drawn, levels)
    return Interval(float(low), float(high))


def _acceleration(samples: list[Vector]) -> float:
    """From the means that leave out one value."""
    cubes = squares = 0.0
    for index, sample in enumerate(samples):
        n = float(sample.size)
        each = [np.broadcast_to(other, (sample.size, other.size)) for other in samples]
        kept = np.broadcast_to(sample, (sample.size, sample.size))[~np.eye(sample.size, dtype=bool)]
        each[index] = kept.reshape(sample.size, -1)
        means = _mean_of_means(*each)
        influence = (n - 1) * (np.mean(means) - means)
        cubes += np.sum(influence**3) / n**3
        squares += np.sum(influence**2) / n**2
    return float(1 / 6 * cubes / squares ** (3 / 2))


def _quantiles(values: Vector, levels: Vector) -> Vector:
    """Linear between neighbours; numpy's own rounds differently in the last bit."""
    place = levels * values.size + (1 - levels)  # from 1
    after, share = np.clip([place // 1, place // 1 - 1], 0, values.size - 1), place % 1
    above, under = np.sort(values)[after.astype(np.int64)]
    quantiles: Vector = (1 - share) * under + share * above
    return quantiles


def _defined(values: npt.ArrayLike) -> Vector:
    listed = np.asarray(values, dtype=np.float64)
    return listed[~np.isnan(listed)]


def _mean_of_means(*samples: Vector, axis: int = -1) -> Vector:
    means: Vector = np.mean([np.mean(sample, axis=axis) for sample in samples], axis=0)
    return means


class PairedTest(NamedTuple):
    """A two-sided paired test."""

    p_value: float
    pairs: int
    """In which both values are defined."""
    differing: int
    """Those of them whose values differ: only they take part."""
    smallest_p: float
    """That so many differing pairs can reach; 1 if none differs, nan without a pair."""


def paired_wilcoxon(values: Sequence[float], baseline: Sequence[float]) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of a method against a baseline, patient by patient.

    Pairs without difference are dropped before ranking (Wilcoxon's own treatment).

    Args:
        values: (n,) one per patient, nan = undefined.
        baseline: (n,) the same patients in the same order.

    Returns:
        p (1 if no pair differs, nan without a defined pair), the pairs, and the smallest p that
        those that differ can reach.

    Raises:
        ValueError: The lengths differ.
    """
    if len(values) != len(baseline):
        raise ValueError(f"pairs need equal lengths, found {len(values)} and {len(baseline)}")
    differences = _defined(np.subtract(values, baseline, dtype=np.float64))
    pairs = differences.size
    # Dropped here, since scipy's exact distribution is not used where zeros remain.
    differing = differences[differences != 0]
    if differing.size == 0:
        nothing = 1.0 if pairs else math.nan
        return PairedTest(nothing, pairs, 0, nothing)
    return PairedTest(_signed_rank_p(differing), pairs, differing.size, smallest_p(differing.size))


def _signed_rank_p(differences: Vector) -> float:
    """Exact for up to 50 pairs, with ties up to 13; else from the normal distribution."""
    n, ranks = differences.size, average_ranks(np.abs(differences))
    gained = float(ranks[differences > 0].sum())
    ties = np.unique(ranks, return_counts=True)[1]
    if n <= 13 or (n <= 50 and ties.size == n):
        steps = (2 * ranks).astype(np.int64)  # whole numbers
        ways = np.zeros(int(steps.sum()) + 1)
        ways[0] = 1
        for step in steps:
            ways[step:] = ways[step:] + ways[:-step]
        middle = int(2 * gained)
        return float(min(1.0, 2 * min(ways[: middle + 1].sum(), ways[middle:].sum()) / 2**n))
    spread = n * (n + 1.0) * (2.0 * n + 1.0) - (ties**3 - ties).sum() / 2
    z = (gained - n * (n + 1.0) * 0.25) / math.sqrt(spread / 24)
    return float(2 * ndtr(-abs(z)))


def average_ranks(values: npt.NDArray[np.floating]) -> Vector:
    """Ranks from 1, the mean of their ranks for equal values: (n,) → (n,); all nan if one is."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Vector = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return np.full(values.shape, np.nan) if np.isnan(values).any() else ranks


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
