"""Agreement of two raters or of a method with a reference: kappa, ICC, limits of agreement."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri

from grcsf.statistics import Interval, check_confidence, resampled


def linear_weighted_kappa(first: Sequence[int], second: Sequence[int], categories: int) -> float:
    """Cohen's kappa with linear weights |i − j| for ordered categories (risk groups).

    Args:
        first: (n,) one rater's categories, 0 … categories − 1.
        second: (n,) the other's.
        categories: Number of categories, also of those that nobody used.

    Returns:
        At most 1; nan without subjects, or where both raters used one and the same category.

    Raises:
        ValueError: The lengths differ, or a category is out of range.
    """
    if len(first) != len(second):
        raise ValueError(f"raters need equal lengths, found {len(first)} and {len(second)}")
    used = np.array([first, second], dtype=np.int64).reshape(2, -1)
    if ((used < 0) | (used >= categories)).any():
        raise ValueError(f"categories must lie in 0 … {categories - 1}")
    return _kappa(_counted(used[0] * categories + used[1], categories))


def _counted(pairs: npt.NDArray[np.int64], categories: int) -> npt.NDArray[np.float64]:
    """Subjects by the category of either rater; `pairs`: first × categories + second."""
    counts = np.bincount(pairs, minlength=categories**2).astype(np.float64)
    return counts.reshape(categories, categories)


def _kappa(observed: npt.NDArray[np.float64]) -> float:
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    places = np.arange(len(observed))
    weights = np.abs(np.subtract.outer(places, places))
    chance = float((weights * expected).sum())
    if chance == 0:
        return math.nan
    return 1 - float((weights * observed).sum()) * int(observed.sum()) / chance


def kappa_interval(
    first: Sequence[int],
    second: Sequence[int],
    categories: int,
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 9999,
) -> Interval:
    """Percentile bootstrap interval, over subjects, of the linearly weighted kappa.

    Samples with an undefined kappa are left out. Percentiles serve in place of BCa, which needs a
    kappa without each subject in turn: with few patients that one is often undefined.

    Args:
        first: (n,) one rater's categories, 0 … categories − 1.
        second: (n,) the other's.
        categories: Number of categories.
        seed: Seed of the resampling.
        confidence: In (0, 1).
        resamples: Number of bootstrap samples.

    Returns:
        The interval; nan bounds for fewer than 2 subjects, or where kappa is not defined.

    Raises:
        ValueError: As for `linear_weighted_kappa`, or a setting is out of range.
    """
    check_confidence(confidence)
    if len(first) < 2 or math.isnan(linear_weighted_kappa(first, second, categories)):
        return Interval(math.nan, math.nan)
    pairs = np.asarray(first, dtype=np.int64) * categories + np.asarray(second, dtype=np.int64)
    draws = resampled(len(first), resamples, np.random.default_rng(seed))
    kappas = [_kappa(_counted(pairs[places], categories)) for some in draws for places in some]
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.nanquantile(kappas, tails)
    return Interval(float(low), float(high))


class LimitsOfAgreement(NamedTuple):
    """Bland and Altman 1986: mean difference, and the range of 95 % of the differences."""

    bias: float
    low: float
    high: float


def limits_of_agreement(values: Sequence[float], reference: Sequence[float]) -> LimitsOfAgreement:
    """Mean of values − reference, and mean ± 1.96 standard deviations.

    Args:
        values: (n,) one value per patient.
        reference: (n,) the same patients in the same order.

    Returns:
        In the values' unit; nan bounds for fewer than 2 patients, all nan without any.

    Raises:
        ValueError: The lengths differ.
    """
    if len(values) != len(reference):
        raise ValueError(f"pairs need equal lengths, found {len(values)} and {len(reference)}")
    differences = np.subtract(values, reference, dtype=np.float64)
    if not differences.size:
        return LimitsOfAgreement(math.nan, math.nan, math.nan)
    bias = float(differences.mean())
    reach = 1.96 * float(differences.std(ddof=1)) if differences.size > 1 else math.nan
    return LimitsOfAgreement(bias, bias - reach, bias + reach)


def icc_absolute_agreement(ratings: npt.ArrayLike) -> float:
    """ICC(A,1): two-way, absolute agreement, single rater (McGraw and Wong 1996).

    (MSR − MSE) / (MSR + (k − 1)·MSE + k/n·(MSC − MSE)) for n subjects and k raters.

    Args:
        ratings: (n, k); a subject with a nan is left out.

    Returns:
        At most 1; nan for fewer than 2 subjects or raters, or without any variance.

    Raises:
        ValueError: The ratings are not a table.
    """
    squares = _mean_squares(ratings)
    if squares is None:
        return math.nan
    n, k, rows, columns, error = squares
    whole = rows + (k - 1) * error + k / n * (columns - error)
    return math.nan if whole == 0 else (rows - error) / whole


def icc_interval(ratings: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Interval of ICC(A,1) from the F distribution (McGraw and Wong 1996, Table 7).

    Args:
        ratings: (n, k); a subject with a nan is left out.
        confidence: In (0, 1).

    Returns:
        The interval; nan bounds where the ICC is undefined, is 1 without any error, or is 0
        because all subjects are alike.

    Raises:
        ValueError: The ratings are not a table, or the confidence is out of range.
    """
    check_confidence(confidence)
    squares, icc = _mean_squares(ratings), icc_absolute_agreement(ratings)
    if squares is None or math.isnan(icc) or icc >= 1:
        return Interval(math.nan, math.nan)
    n, k, rows, columns, error = squares
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    spread = (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    if spread == 0:
        return Interval(math.nan, math.nan)
    freedom = (a * columns + b * error) ** 2 / spread
    level = (1 + confidence) / 2
    below, above = fdtri(n - 1, freedom, level), fdtri(freedom, n - 1, level)
    rest = k * columns + (k * n - k - n) * error
    # divided by the quantiles, because products with those of two or three subjects overflow
    low = n * (rows / below - error) / (rest + n * rows / below)
    high = n * (rows - error / above) / (rest / above + n * rows)
    return Interval(float(low), float(high))


def _mean_squares(ratings: npt.ArrayLike) -> tuple[int, int, float, float, float] | None:
    """Subjects, raters, mean squares of subjects, raters and error; None if undefined."""
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"ratings must be (subjects, raters), found shape {table.shape}")
    table = table[~np.isnan(table).any(axis=1)]
    n, k = table.shape
    if n < 2 or k < 2 or np.ptp(table) == 0:
        return None
    grand = table.mean()
    of_rows, of_columns = table.mean(axis=1) - grand, table.mean(axis=0) - grand
    residual = table - grand - of_rows[:, None] - of_columns
    rows = k * float(np.square(of_rows).sum()) / (n - 1)
    columns = n * float(np.square(of_columns).sum()) / (k - 1)
    error = float(np.square(residual).sum()) / ((n - 1) * (k - 1))
    return n, k, rows, columns, error
