"""Voxel counts, and scores from counts.

Conventions for empty masks (``nan`` = undefined; means leave it out and count it):

| reference | prediction | dice, iou, precision | recall | voe |
|---|---|---|---|---|
| empty | empty | 1 | 1 | 0 |
| empty | some | 0 | nan | nan |
| some | empty | 0 | 0 | 0 |
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Counts(Protocol):
    """Hits and errors in any unit: voxels, lesions or mm³."""

    @property
    def tp(self) -> float:
        """Predicted and in the reference, ≥ 0."""

    @property
    def fp(self) -> float:
        """Predicted, not in the reference, ≥ 0."""

    @property
    def fn(self) -> float:
        """In the reference, not predicted, ≥ 0."""


@dataclass(frozen=True)
class VoxelCounts:
    """The confusion of two masks, in voxels."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: "VoxelCounts") -> "VoxelCounts":
        """The pooled voxels of both patients."""
        return VoxelCounts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )


def count_voxels(
    prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]
) -> VoxelCounts:
    """Count a prediction's voxels against a reference's.

    Args:
        prediction: (z, y, x) bool, 1 = lesion.
        reference: (z, y, x) bool, 1 = lesion.

    Raises:
        ValueError: Shapes differ, or a mask is not boolean.
    """
    check_masks(prediction, reference)
    tp = int(np.count_nonzero(prediction & reference))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return VoxelCounts(tp, fp, fn, prediction.size - tp - fp - fn)


def check_masks(*masks: npt.NDArray[np.bool_]) -> None:
    """Refuse masks of other types than bool or of differing shapes.

    Raises:
        ValueError: Shapes differ, or a mask is not boolean.
    """
    for mask in masks:
        if mask.dtype != np.bool_:
            raise ValueError(f"a mask must be boolean, found {mask.dtype}")
        if mask.shape != masks[0].shape:
            raise ValueError(f"masks differ in shape: {masks[0].shape} and {mask.shape}")


def dice(counts: Counts) -> float:
    """2TP / (2TP + FP + FN), in [0, 1]; 1 if reference and prediction are empty."""
    whole = 2 * counts.tp + counts.fp + counts.fn
    return 1.0 if whole == 0 else 2 * counts.tp / whole


def f1(counts: Counts) -> float:
    """Harmonic mean of precision and recall, in [0, 1]: the name Dice has for lesions and mm³."""
    return dice(counts)


def iou(counts: Counts) -> float:
    """TP / (TP + FP + FN), in [0, 1]; 1 if reference and prediction are empty."""
    union = counts.tp + counts.fp + counts.fn
    return 1.0 if union == 0 else counts.tp / union


def precision(counts: Counts) -> float:
    """TP / (TP + FP), in [0, 1]; without prediction 1 if the reference is empty too, else 0."""
    predicted = counts.tp + counts.fp
    if predicted == 0:
        return 1.0 if counts.fn == 0 else 0.0
    return counts.tp / predicted


def recall(counts: Counts) -> float:
    """TP / (TP + FN), in [0, 1]; without reference 1 if the prediction is empty too, else nan."""
    referred = counts.tp + counts.fn
    if referred == 0:
        return 1.0 if counts.fp == 0 else math.nan
    return counts.tp / referred


def voe(counts: Counts) -> float:
    """Volume over-segmentation error FP / (TP + FN), ≥ 0 [4.2; checked against Table 2].

    Without reference 0 if the prediction is empty too, else nan.
    """
    referred = counts.tp + counts.fn
    if referred == 0:
        return 0.0 if counts.fp == 0 else math.nan
    return counts.fp / referred


def fpr_percent(counts: VoxelCounts) -> float:
    """100 · FP / (FP + TN), in [0, 100] %; nan if the reference fills the volume."""
    background = counts.fp + counts.tn
    return math.nan if background == 0 else 100 * counts.fp / background


def voxel_scores(counts: VoxelCounts) -> dict[str, float]:
    """All scores of one patient, named and ordered as in Table 1; ``fpr_percent`` is in %."""
    return {
        "dice": dice(counts),
        "iou": iou(counts),
        "precision": precision(counts),
        "recall": recall(counts),
        "voe": voe(counts),
        "fpr_percent": fpr_percent(counts),
    }


def mean_defined(values: Iterable[float]) -> tuple[float, int]:
    """Mean of the defined values, and the number of undefined ones (nan).

    Returns:
        (mean, number undefined); the mean is nan if no value is defined.
    """
    listed = list(values)
    defined = [value for value in listed if not math.isnan(value)]
    mean = math.fsum(defined) / len(defined) if defined else math.nan
    return mean, len(listed) - len(defined)
