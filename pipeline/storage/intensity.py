"""The source values that appear as black and white, for networks and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.settings import QUANTILES, Slices


def intensity_range(attributes: Mapping[str, Any], settings: Slices) -> tuple[float, float]:
    """The source values that become 0 and 1: the window, or quantiles of this case."""
    if settings.window is not None:
        return settings.window
    assert settings.percentiles is not None
    levels = 100 * np.array(QUANTILES)
    low, high = (
        attributes["quantiles"][int(np.argmin(np.abs(levels - percentile)))]
        for percentile in settings.percentiles
    )
    return (low, high) if high > low else (low, low + 1.0)


def image_key(attributes: Mapping[str, Any], settings: Slices) -> dict[str, Any]:
    """What decides the slices that a network sees of a case; quantiles change without voxels."""
    return {"image": attributes["sha256_image"], "range": intensity_range(attributes, settings)}
