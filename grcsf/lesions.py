"""Scores by lesion: hits and errors by number and by volume, and groups of cases by size."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from grcsf.components import label_lesions, voxel_volume_mm3
from grcsf.metrics import check_masks, f1, precision, recall

Mask = npt.NDArray[np.bool_]

SIZE_GROUPS = ("1-100", "101-1000", ">1000")
_SIZE_BOUNDS = (100, 1000)


@dataclass(frozen=True)
class Tally:
    """Hits and errors in one unit: lesions or mm³."""

    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        """Both patients' tallies pooled."""
        return Tally(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


@dataclass(frozen=True)
class LesionCounts:
    """Lesions detected, invented and missed, by number and by volume in mm³."""

    number: Tally = field(default_factory=Tally)
    volume_mm3: Tally = field(default_factory=Tally)

    def __add__(self, other: "LesionCounts") -> "LesionCounts":
        """Both patients' lesions pooled."""
        return LesionCounts(self.number + other.number, self.volume_mm3 + other.volume_mm3)

    def without_fp(self) -> "LesionCounts":
        """The same with false positives undefined (nan)."""
        return LesionCounts(
            replace(self.number, fp=math.nan), replace(self.volume_mm3, fp=math.nan)
        )


def tally_lesions(
    volumes_mm3: npt.NDArray[np.floating], predicted: Mask, in_reference: Mask
) -> LesionCounts:
    """Count hits and errors over lesions that prediction and reference share.

    Args:
        volumes_mm3: (n,) each lesion's volume.
        predicted: (n,) bool, 1 = in the prediction.
        in_reference: (n,) bool, 1 = in the reference.
    """
    outcomes = predicted & in_reference, predicted & ~in_reference, ~predicted & in_reference
    number = Tally(*(float(np.count_nonzero(lesions)) for lesions in outcomes))
    return LesionCounts(number, Tally(*(float(volumes_mm3[lesions].sum()) for lesions in outcomes)))


def pool_lesions(counts: Iterable[LesionCounts]) -> LesionCounts:
    """Sum of the patients' counts; its scores are the challenge's pooled scores."""
    return sum(counts, start=LesionCounts())


def lesion_scores(counts: LesionCounts) -> dict[str, float]:
    """Scores of one or of pooled patients in the order of Table 2, each in [0, 1].

    Empty counts follow `grcsf.metrics`: nan is undefined. By artery only sensitivities are
    defined, the rest is nan.
    """
    return {
        "f1_volume": f1(counts.volume_mm3),
        "sensitivity_volume": recall(counts.volume_mm3),
        "ppv_volume": precision(counts.volume_mm3),
        "sensitivity_lesions": recall(counts.number),
        "ppv_lesions": precision(counts.number),
    }


def lesion_tally(prediction: Mask, reference: Mask) -> Tally:
    """Lesions detected, invented and missed; one voxel of overlap detects [ATLAS challenge].

    Lesions are 6-connected here as everywhere. The challenge's published code takes 26-connected
    lesions: two that meet at an edge or a corner are one lesion there and two here.
    Hits are lesions of the reference: two of them under one predicted lesion are two hits, and one
    under two predicted lesions is one hit.

    Args:
        prediction: (z, y, x) bool, 1 = lesion.
        reference: (z, y, x) bool, 1 = lesion.

    Returns:
        tp, fp and fn in lesions.

    Raises:
        ValueError: The masks are not boolean, not 3D, or differ in shape.
    """
    check_masks(prediction, reference)
    predicted, number_predicted = label_lesions(prediction)
    expected, number_expected = label_lesions(reference)
    both = prediction & reference
    detected = np.unique(expected[both]).size
    confirmed = np.unique(predicted[both]).size
    return Tally(detected, number_predicted - confirmed, number_expected - detected)


def lesion_f1(prediction: Mask, reference: Mask) -> float:
    """Lesion-wise F1, in [0, 1]; 1 if both masks are empty [ATLAS challenge, 6-connected].

    Raises:
        ValueError: The masks are not boolean, not 3D, or differ in shape.
    """
    return f1(lesion_tally(prediction, reference))


def lesion_count_difference(prediction: Mask, reference: Mask) -> int:
    """|lesions predicted − lesions in the reference|, ≥ 0 [ATLAS challenge, 6-connected].

    Raises:
        ValueError: The masks are not boolean, not 3D, or differ in shape.
    """
    check_masks(prediction, reference)
    return abs(label_lesions(prediction)[1] - label_lesions(reference)[1])


def volume_difference_mm3(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """|volume predicted − volume of the reference| in mm³, ≥ 0 [ATLAS challenge].

    Raises:
        ValueError: The masks are not boolean or differ in shape, or the spacing is not valid.
    """
    check_masks(prediction, reference)
    voxels = abs(int(np.count_nonzero(prediction)) - int(np.count_nonzero(reference)))
    return voxels * voxel_volume_mm3(spacing_mm)


def size_group(voxels: int) -> str:
    """The case's group in Fig. 9 by its lesion voxels: 1–100, 101–1,000 or > 1,000.

    Raises:
        ValueError: Fewer than one voxel: a case without lesion has no group.
    """
    if voxels < 1:
        raise ValueError(f"a size group needs at least 1 lesion voxel, found {voxels}")
    return SIZE_GROUPS[int(np.searchsorted(_SIZE_BOUNDS, voxels))]


def quartile_groups(voxels: Sequence[int]) -> npt.NDArray[np.int64]:
    """Each case's quarter by lesion voxels: (n,), 1 = smallest … 4.

    Bounds are the linear quartiles of ``voxels``; a size on a bound goes to the smaller group,
    so equal sizes always share a group and groups may differ in number.

    Raises:
        ValueError: A size below 1.
    """
    sizes = np.asarray(voxels, dtype=np.int64)
    if sizes.size == 0:
        return sizes
    if sizes.min() < 1:
        raise ValueError(f"a size group needs at least 1 lesion voxel, found {sizes.min()}")
    groups: npt.NDArray[np.int64] = 1 + np.searchsorted(
        np.quantile(sizes, (0.25, 0.5, 0.75)), sizes
    ).astype(np.int64)
    return groups
