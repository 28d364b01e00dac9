"""Which source values a data set shows as black and white, to the networks and to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.settings import QUANTILES, Slices


def intensity_range(attributes: Mapping[str, Any], settings: Slices) -> tuple[float, float]:
    """The source values that become 0 and 1: the window, or this case's own quantiles."""
    if settings.window is not None:
        return settings.window
    assert settings.percentiles is not None
    low, high = (
        attributes["quantiles"][int(np.argmin([abs(100 * q - wanted) for q in QUANTILES]))]
        for wanted in settings.percentiles
    )
    return (low, high) if high > low else (low, low + 1.0)


def image_key(attributes: Mapping[str, Any], settings: Slices) -> dict[str, Any]:
    """What the slices that a network sees of a case are made from, for fingerprints.

    The image's digest alone does not tell: quantiles may change while the voxels stay.
    """
    return {"image": attributes["sha256_image"], "range": intensity_range(attributes, settings)}
