"""Contrast of a residual map: lesions against their surroundings."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
REACH = 6  # pixels at the network's input size


def lesion_contrast(maps: npt.NDArray[np.floating], lesion: Mask, reach: int = REACH) -> float:
    """The area under the ROC curve of a map's values, lesion against its surroundings.

    This is the probability that a lesion pixel is brighter than a pixel around it; ties count half.
    0.5 is chance, 1 means always brighter, below 0.5 means darker: the area of −maps is 1 minus it.

    Args:
        maps: (z, y, x), residual maps.
        lesion: (z, y, x) bool, 1 = lesion.
        reach: largest distance of a surrounding pixel from the lesion, in steps along rows and
            columns of the same slice.

    Returns:
        In [0, 1]; nan without lesion or without surroundings.

    Raises:
        ValueError: The shapes differ.
    """
    if maps.shape != lesion.shape:
        raise ValueError(f"map and lesion differ in shape: {maps.shape} and {lesion.shape}")
    if not lesion.any():
        return math.nan
    steps = ndimage.generate_binary_structure(2, 1)[None]  # (1, 3, 3): within a slice
    around = ndimage.binary_dilation(lesion, steps, iterations=reach) & ~lesion
    inside, outside = maps[lesion], maps[around]
    if not outside.size:
        return math.nan
    from scipy.stats import rankdata  # imported here: half as long as torch takes

    ranks = rankdata(np.concatenate([inside, outside]))[: inside.size]
    smallest = inside.size * (inside.size + 1) / 2
    return float((ranks.sum() - smallest) / (inside.size * outside.size))
