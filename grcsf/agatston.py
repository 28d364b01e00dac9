"""Scores of coronary calcium: Agatston and volume, by artery, and the risk group."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from grcsf.calcium import THRESHOLD_HU, Image, Labels, check_labels
from grcsf.components import label_lesions, voxel_volume_mm3
from grcsf.lesions import Mask
from grcsf.metrics import check_masks

RISK_GROUPS = ("0", "1-10", "11-100", "101-400", ">400")
_RISK_BOUNDS = (0, 10, 100, 400)


@dataclass(frozen=True)
class CalciumScore:
    """Agatston score (mm²·weight) and volume score (mm³); both ≥ 0."""

    agatston: float = 0.0
    volume_mm3: float = 0.0

    def __add__(self, other: "CalciumScore") -> "CalciumScore":
        """The total of both."""
        return CalciumScore(self.agatston + other.agatston, self.volume_mm3 + other.volume_mm3)


def calcium_score(
    mask: Mask,
    hu: Image,
    spacing_mm: Sequence[float],
    *,
    threshold_hu: float = THRESHOLD_HU,
    reference_spacing_mm: float | None = 3.0,
) -> CalciumScore:
    """Agatston and volume score of the calcium in a mask.

    Per slice and lesion, area × weight of the lesion's maximum HU in that slice (130–199 → 1,
    200–299 → 2, 300–399 → 3, ≥ 400 → 4). A lesion is a 3D 6-connected component of the mask's
    voxels above the threshold, so its parts in one slice share a weight; there is no smallest area.

    Args:
        mask: (z, y, x) bool, 1 = calcium; for whole candidates, from `claim_candidates`.
        hu: (z, y, x), HU.
        spacing_mm: (z, y, x) in mm; z is the distance of slices.
        threshold_hu: Only voxels strictly above it count.
        reference_spacing_mm: Agatston is multiplied by slice spacing over this, unless None.

    Raises:
        ValueError: The mask is not boolean, shapes differ, or a setting is not positive.
    """
    above = np.asarray(hu > threshold_hu)
    check_masks(mask, above)
    if reference_spacing_mm is not None and not reference_spacing_mm > 0:
        raise ValueError(f"reference spacing must exceed 0 mm, found {reference_spacing_mm}")
    voxel_mm3 = voxel_volume_mm3(spacing_mm)
    thickness_mm, *pixel_mm = spacing_mm
    scale = 1.0 if reference_spacing_mm is None else thickness_mm / reference_spacing_mm
    counted = mask & above
    agatston = _weighted_pixels(counted, hu) * math.prod(pixel_mm) * scale
    return CalciumScore(agatston, int(np.count_nonzero(counted)) * voxel_mm3)


def _weighted_pixels(calcium: Mask, hu: Image) -> int:
    lesions, number = label_lesions(calcium)
    voxels = np.flatnonzero(lesions)
    # One key for each lesion in each slice: slice · (n + 1) + lesion.
    keys = voxels // hu[0].size * (number + 1) + lesions.ravel()[voxels]
    _, part, pixels = np.unique(keys, return_inverse=True, return_counts=True)
    maxima = np.full(pixels.size, -np.inf)
    np.maximum.at(maxima, part, hu.ravel()[voxels])
    return int((pixels * agatston_weight(maxima)).sum())


def agatston_weight(maximum_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Weight of a lesion's maximum HU in a slice: < 200 → 1, < 300 → 2, < 400 → 3, else 4."""
    weights: npt.NDArray[np.int64] = 1 + np.digitize(maximum_hu, (200, 300, 400)).astype(np.int64)
    return weights


def artery_scores(
    labels: Labels,
    hu: Image,
    spacing_mm: Sequence[float],
    *,
    threshold_hu: float = THRESHOLD_HU,
    reference_spacing_mm: float | None = 3.0,
) -> dict[int, CalciumScore]:
    """Scores by artery label; their sum is the patient's total. See `calcium_score`.

    Args:
        labels: (z, y, x) integer ≥ 0 (orCaScore: 1 LAD, 2 LCX, 3 RCA), 0 = background.
        hu: (z, y, x), HU.
        spacing_mm: (z, y, x) in mm.
        threshold_hu: As for `calcium_score`.
        reference_spacing_mm: As for `calcium_score`.

    Returns:
        Label → score, for the labels that occur.

    Raises:
        ValueError: The labels do not fit the image, or as for `calcium_score`.
    """
    check_labels(labels, hu.shape)
    return {
        int(artery): calcium_score(
            np.asarray(labels == artery),
            hu,
            spacing_mm,
            threshold_hu=threshold_hu,
            reference_spacing_mm=reference_spacing_mm,
        )
        for artery in np.unique(labels[labels > 0])
    }


def risk_group(agatston: float) -> int:
    """Index into `RISK_GROUPS` (0 … 4) of an Agatston score.

    The published groups are of whole scores. A fractional score belongs to the first group whose
    upper bound it does not exceed: 0.5 is in 1–10, 10.5 in 11–100, 400.5 in > 400.

    Raises:
        ValueError: The score is negative or nan.
    """
    if math.isnan(agatston) or agatston < 0:
        raise ValueError(f"an Agatston score must be 0 or more, found {agatston}")
    return int(np.searchsorted(_RISK_BOUNDS, agatston))
