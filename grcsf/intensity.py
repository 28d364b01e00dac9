"""Intensities from a source's units to [0, 1], the range of the networks' inputs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def scale_window(array: ArrayLike, low: float, high: float) -> NDArray[np.float32]:
    """Scale an intensity window to [0, 1] and clip what lies outside (CT, in HU).

    Args:
        array: any shape, any real dtype, in the source's units.
        low: value that becomes 0.
        high: value that becomes 1.

    Returns:
        The same shape, float32, in [0, 1].

    Raises:
        ValueError: `low` is not below `high`.
    """
    if not low < high:
        raise ValueError(f"the window's lower value {low:g} is not below its upper value {high:g}")
    # Converted before the subtraction: int16 HU minus a window's end may overflow int16.
    scaled = (np.asarray(array).astype(np.float32) - np.float32(low)) / np.float32(high - low)
    clipped: NDArray[np.float32] = np.clip(scaled, 0.0, 1.0)
    return clipped


def scale_percentiles(array: ArrayLike, low: float, high: float) -> NDArray[np.float32]:
    """Scale a case's own intensity range to [0, 1] and clip what lies outside (MRI).

    Args:
        array: any shape, any real dtype, in the source's units.
        low: the case's value at the lower percentile, see `foreground_quantiles`.
        high: the case's value at the upper percentile.

    Returns:
        The same shape, float32, in [0, 1]; all 0 where the case has no contrast (`low` = `high`).

    Raises:
        ValueError: `low` is above `high`, or either is not finite.
    """
    if not np.isfinite([low, high]).all() or low > high:
        raise ValueError(f"percentile values {low:g} and {high:g} are not an ascending pair")
    if low == high:
        return np.zeros(np.shape(array), dtype=np.float32)
    return scale_window(array, low, high)


def foreground_quantiles(volume: ArrayLike, levels: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles of the voxels above the volume's minimum, so that background air does not count.

    Args:
        volume: (z, y, x), any real dtype, in the source's units.
        levels: quantile levels in [0, 1].

    Returns:
        (len(levels),) float64 in the source's units; a constant volume's value throughout.

    Raises:
        ValueError: an empty volume, voxels that are not finite, or a level outside [0, 1].
    """
    values = np.asarray(volume)
    wanted = np.asarray(levels, dtype=np.float64)
    if values.size == 0:
        raise ValueError(f"volume of shape {values.shape} has no voxels")
    if wanted.size and not (wanted.min() >= 0.0 and wanted.max() <= 1.0):
        raise ValueError(f"quantile levels {list(levels)} are not within [0, 1]")
    lowest, highest = values.min(), values.max()
    # A NaN anywhere makes both extremes NaN, an infinity one of them infinite.
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("volume has voxels that are NaN or infinite")
    if lowest == highest:
        return np.full(wanted.shape, float(lowest))
    foreground = values[values > lowest].astype(np.float64)
    return np.asarray(np.quantile(foreground, wanted), dtype=np.float64)
