"""Coronary calcium: candidate lesions and their labels, post-processing, matching, scores.

A candidate is a 3D 6-connected component of HU > 130 (strictly) of the whole volume. Labels are
votes: the majority label among a candidate's voxels is given to *all* its voxels (the orCaScore
challenge's rule). The rule is silent on whether background votes: ``majority_over="labelled"``
leaves it out, so one labelled voxel claims the candidate; ``"all"`` counts it. A tie goes to the
smallest label; background is 0, so under ``"all"`` a half-labelled candidate stays unclaimed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from grcsf.components import (
    Components,
    component_sizes,
    filter_components,
    label_lesions,
    large_enough,
    lesion_voxels,
    paint_components,
    voxel_volume_mm3,
)
from grcsf.lesions import LesionCounts, Mask, tally_lesions
from grcsf.metrics import check_masks

MajorityOver = Literal["labelled", "all"]
Labels = npt.NDArray[np.integer] | Mask
Image = npt.NDArray[np.integer] | npt.NDArray[np.floating]

THRESHOLD_HU = 130.0
RISK_GROUPS = ("0", "1-10", "11-100", "101-400", ">400")
_RISK_BOUNDS = (0, 10, 100, 400)


def find_candidates(hu: Image, *, threshold_hu: float = THRESHOLD_HU) -> tuple[Components, int]:
    """Number the 3D 6-connected components of ``hu`` (z, y, x) strictly above a threshold.

    Returns candidates (z, y, x) int32, 0 = none, 1 … n; and n.
    """
    return label_lesions(np.asarray(hu > threshold_hu))


def vote(
    labels: Labels, candidates: Components, number: int, *, majority_over: MajorityOver = "labelled"
) -> npt.NDArray[np.int64]:
    """The majority label of every candidate, ties to the smallest label.

    Args:
        labels: (z, y, x) integer ≥ 0 or bool, 0 = background.
        candidates: (z, y, x), 0 = none, 1 … number.
        number: Number of candidates.
        majority_over: "labelled" counts labelled voxels only, "all" background's votes too.

    Returns:
        (number,) label of candidate i + 1, 0 = unclaimed.

    Raises:
        ValueError: Shapes differ, labels are no integers ≥ 0, or ``majority_over`` is unknown.
    """
    _check_majority(majority_over)
    _check_labels(labels, candidates.shape)
    inside = np.flatnonzero(candidates)
    owners = candidates.reshape(-1)[inside] - 1
    return _count_votes(labels.reshape(-1)[inside], owners, number, majority_over)


def _count_votes(
    labels: Labels, owners: npt.NDArray[np.int32], number: int, majority_over: MajorityOver
) -> npt.NDArray[np.int64]:
    """`vote` by voxels: (m,) labels, and (m,) the candidate 0 … number − 1 of each."""
    voters = labels.astype(np.int64)
    kinds = int(voters.max(initial=0)) + 1
    ballots = owners.astype(np.int64) * kinds + voters
    votes = np.bincount(ballots, minlength=number * kinds).reshape(-1, kinds)
    if majority_over == "labelled":
        # A candidate without a labelled voxel is all zeros then, and argmax leaves it at 0.
        votes[:, 0] = 0
    winners: npt.NDArray[np.int64] = votes.argmax(axis=1).astype(np.int64)
    return winners


def _check_majority(majority_over: str) -> None:
    if majority_over not in get_args(MajorityOver):
        raise ValueError(f"majority_over must be 'labelled' or 'all', found {majority_over!r}")


def _check_labels(labels: Labels, shape: tuple[int, ...]) -> None:
    if labels.shape != shape:
        raise ValueError(f"labels and image differ in shape: {labels.shape} and {shape}")
    if labels.dtype.kind not in "biu" or labels.min(initial=0) < 0:
        raise ValueError(f"labels must be integers ≥ 0 or boolean, found {labels.dtype}")


def claim_candidates(
    labels: Labels,
    hu: Image,
    *,
    threshold_hu: float = THRESHOLD_HU,
    majority_over: MajorityOver = "labelled",
) -> Labels:
    """Give each candidate's voxels its majority label, and every other voxel 0.

    Arguments and errors as for `vote` and `find_candidates`.

    Returns:
        (z, y, x) labels of whole candidates, in the type of ``labels``.
    """
    candidates, number = find_candidates(hu, threshold_hu=threshold_hu)
    votes = vote(labels, candidates, number, majority_over=majority_over)
    return paint_components(votes.astype(labels.dtype), candidates)


def postprocess_calcium(
    prediction: Mask,
    hu: Image,
    spacing_mm: Sequence[float],
    *,
    threshold_hu: float = THRESHOLD_HU,
    min_volume_mm3: float = 0,
    grow: bool = False,
    majority_over: MajorityOver = "labelled",
    in_place: bool = False,
) -> Mask:
    """Bring a prediction to the definition of calcium.

    Args:
        prediction: (z, y, x) bool, 1 = calcium.
        hu: (z, y, x), HU.
        spacing_mm: (z, y, x) in mm.
        threshold_hu: A voxel of exactly this value is no calcium.
        min_volume_mm3: Smaller 6-connected components are dropped; 0 keeps all.
        grow: False keeps predicted voxels above the threshold; True takes claimed candidates.
        majority_over: Who votes when growing: "labelled" or "all".
        in_place: The prediction may be changed; of a large volume a second one takes time, too.

    Returns:
        (z, y, x) bool, 1 = calcium. Applied again, it changes nothing.

    Raises:
        ValueError: Shapes differ, the prediction is not boolean, or a setting is out of range.
    """
    check_masks(prediction)
    if hu.shape != prediction.shape:
        raise ValueError(f"mask and image differ in shape: {prediction.shape} and {hu.shape}")
    _check_majority(majority_over)
    if not grow:
        kept = prediction if in_place else prediction.copy()
        # slice by slice: new memory for a large volume takes longer than the comparison
        for mask, image in zip(kept, hu, strict=True):
            mask &= image > threshold_hu
        return filter_components(kept, spacing_mm, min_volume_mm3, in_place=True)
    above = np.asarray(hu > threshold_hu)
    inside, owners, number = lesion_voxels(above)
    votes = _count_votes(prediction.reshape(-1)[inside], owners, number, majority_over)
    large = large_enough(np.bincount(owners, minlength=number), spacing_mm, min_volume_mm3)
    dropped = ~((votes > 0) & large)
    np.put(above, inside[dropped[owners]], False)
    return above


@dataclass(frozen=True)
class LesionMatch:
    """One patient's counts: all arteries together, and by the reference's artery label.

    A false positive has no artery, so ``fp`` is nan by artery: only sensitivity is defined there.
    """

    total: LesionCounts
    by_artery: dict[int, LesionCounts]


def match_lesions(
    prediction: Labels,
    reference: Labels,
    hu: Image,
    spacing_mm: Sequence[float],
    *,
    threshold_hu: float = THRESHOLD_HU,
    majority_over: MajorityOver = "labelled",
) -> LesionMatch:
    """Match lesions that are the same candidate, whichever artery each side names.

    Args:
        prediction: (z, y, x) bool or labels, 0 = background.
        reference: (z, y, x) labels (orCaScore: 1 LAD, 2 LCX, 3 RCA) or bool, 0 = background.
        hu: (z, y, x), HU, the whole volume.
        spacing_mm: (z, y, x) in mm.
        threshold_hu: Candidates lie strictly above; what is marked elsewhere is not a lesion.
        majority_over: Who votes: "labelled" or "all".

    Raises:
        ValueError: As for `vote`, or the spacing is not valid.
    """
    candidates, number = find_candidates(hu, threshold_hu=threshold_hu)
    predicted = vote(prediction, candidates, number, majority_over=majority_over) > 0
    arteries = vote(reference, candidates, number, majority_over=majority_over)
    volumes = component_sizes(candidates, number) * voxel_volume_mm3(spacing_mm)
    by_artery = {
        name: tally_lesions(volumes, predicted, arteries == name).without_fp()
        for name in np.unique(arteries[arteries > 0]).tolist()
    }
    return LesionMatch(tally_lesions(volumes, predicted, arteries > 0), by_artery)


@dataclass(frozen=True)
class CalciumScore:
    """Agatston score (mm²·weight) and volume score (mm³); both ≥ 0."""

    agatston: float = 0.0
    volume_mm3: float = 0.0

    def __add__(self, other: "CalciumScore") -> "CalciumScore":
        """Scores of several arteries in total."""
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
        threshold_hu: Voxels that do not exceed it do not count.
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
    """Scores by artery label; their sum is the patient's total. All else as for `calcium_score`.

    Args:
        labels: (z, y, x) integer ≥ 0 (orCaScore: 1 LAD, 2 LCX, 3 RCA), 0 = background.
        hu: (z, y, x), HU.
        spacing_mm: (z, y, x) in mm.
        threshold_hu: As there.
        reference_spacing_mm: As there.

    Returns:
        Label → score, for the labels that occur.
    """
    _check_labels(labels, hu.shape)
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

    The groups are printed for whole scores. A fractional one belongs to the first group whose
    upper bound it does not exceed: 0.5 is in 1–10, 10.5 in 11–100, 400.5 in > 400.

    Raises:
        ValueError: The score is negative or nan.
    """
    if math.isnan(agatston) or agatston < 0:
        raise ValueError(f"an Agatston score must be 0 or more, found {agatston}")
    return int(np.searchsorted(_RISK_BOUNDS, agatston))
