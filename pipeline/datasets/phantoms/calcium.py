"""A heart phantom's reference mask and Agatston score, computed independently of `grcsf`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.datasets.phantoms.fields import Array, Grid, Mask

THRESHOLD_HU = 130
ARTERIES = ("LAD", "LCX", "RCA")


def reference(image: npt.NDArray[np.int16], shares: Array, dense: Array) -> Mask:
    """The mask of whole 3D, 6-connected components above 130 HU: 1 LAD, 2 LCX, 3 RCA.

    `shares` (3, z, y, x) of each voxel are an artery's plaques. A component that touches bone or
    aortic calcium, whose shares are `dense`, is no coronary lesion.
    """
    parts, count = ndimage.label(image > THRESHOLD_HU)
    votes = [np.bincount(parts[share > 0.3], minlength=count + 1) for share in shares]
    winner = np.argmax([np.zeros(count + 1), *votes], axis=0).astype(np.uint8)
    winner[0] = 0
    winner[parts[dense > 0.5]] = 0
    named: Mask = winner[parts]
    return named


def agatston(image: npt.NDArray[Any], label: Mask, grid: Grid) -> dict[str, float]:
    """Agatston scores by artery and in total, in plain loops over 3D lesions and slices.

    A lesion's area in mm² × 1 to 4 by its highest HU in the slice × slice spacing / 3 mm.
    """
    pixel_mm2 = grid.spacing[1] * grid.spacing[2]
    scores = {}
    for number, artery in enumerate(ARTERIES, start=1):
        parts, count = ndimage.label(label == number)
        score = 0.0
        for lesion in range(1, count + 1):
            for k in np.flatnonzero((parts == lesion).any(axis=(1, 2))):
                values = image[k][parts[k] == lesion]
                weight = sum(values.max() >= step for step in (THRESHOLD_HU, 200, 300, 400))
                score += len(values) * pixel_mm2 * weight
        scores[artery] = score * grid.spacing[0] / 3
    return {**scores, "total": sum(scores.values())}
