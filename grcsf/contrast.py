"""How much brighter a residual map is in lesions than around them."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from grcsf.statistics import average_ranks

Mask = npt.NDArray[np.bool_]
REACH = 6  # pixels at the network's size


def lesion_contrast(maps: npt.NDArray[np.floating], lesion: Mask, reach: int = REACH) -> float:
    """The area under the ROC curve of a map's values, lesion against its surroundings.

    It is the probability that a lesion pixel is brighter than a pixel around it, ties counted
    half: 0.5 is chance, 1 is brighter everywhere, below 0.5 darker.

    Args:
        maps: (z, y, x), the residual map of some slices.
        lesion: (z, y, x) bool, 1 = lesion.
        reach: in every slice, pixels at most so many steps to a side from the lesion surround it.

    Returns:
        In [0, 1]; nan if there is no lesion or nothing around it.

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
    ranks = average_ranks(np.concatenate([inside, outside]))[: inside.size]
    smallest = inside.size * (inside.size + 1) / 2
    return float((ranks.sum() - smallest) / (inside.size * outside.size))
