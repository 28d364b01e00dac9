"""Coronary calcium: candidate lesions and their labels, post-processing, matching.

A candidate is a 3D 6-connected component of HU > 130 (strictly) of the whole volume. Labels are
votes: the majority label of a candidate's voxels goes to *all* its voxels (the orCaScore
challenge's rule). The rule does not say whether background votes: ``majority_over="labelled"``
leaves it out, so a single labelled voxel claims the candidate; ``"all"`` counts it. A tie goes to
the smallest label. Background is 0, so under ``"all"`` a half-labelled candidate stays unclaimed.
"""

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
    check_labels(labels, candidates.shape)
    inside = np.flatnonzero(candidates)
    owners = candidates.reshape(-1)[inside] - 1
    return _count_votes(labels.reshape(-1)[inside], owners, number, majority_over)


def _count_votes(
    labels: Labels, owners: npt.NDArray[np.int32], number: int, majority_over: MajorityOver
) -> npt.NDArray[np.int64]:
    """`vote` on the m voxels of candidates: (m,) labels, (m,) candidate 0 … number − 1 of each."""
    voters = labels.astype(np.int64)
    kinds = int(voters.max(initial=0)) + 1
    ballots = owners.astype(np.int64) * kinds + voters
    votes = np.bincount(ballots, minlength=number * kinds).reshape(-1, kinds)
    if majority_over == "labelled":
        # A candidate without a labelled voxel has no vote left, and argmax gives it 0.
        votes[:, 0] = 0
    winners: npt.NDArray[np.int64] = votes.argmax(axis=1).astype(np.int64)
    return winners


def _check_majority(majority_over: str) -> None:
    if majority_over not in get_args(MajorityOver):
        raise ValueError(f"majority_over must be 'labelled' or 'all', found {majority_over!r}")


def check_labels(labels: Labels, shape: tuple[int, ...]) -> None:
    """Refuse labels that do not fit an image.

    Raises:
        ValueError: The shape differs, or labels are no integers ≥ 0.
    """
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
        in_place: The prediction may be changed, which saves a copy of a large volume.

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
        calcium = prediction if in_place else prediction.copy()
        # slice by slice: allocating a large volume takes longer than the comparison
        for mask, image in zip(calcium, hu, strict=True):
            mask &= image > threshold_hu
        return filter_components(calcium, spacing_mm, min_volume_mm3, in_place=True)
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
    """Match lesions candidate by candidate, whichever artery each side names.

    Args:
        prediction: (z, y, x) bool or labels, 0 = background.
        reference: (z, y, x) labels (orCaScore: 1 LAD, 2 LCX, 3 RCA) or bool, 0 = background.
        hu: (z, y, x), HU, the whole volume.
        spacing_mm: (z, y, x) in mm.
        threshold_hu: Candidates lie strictly above; marks elsewhere are no lesions.
        majority_over: Who votes: "labelled" or "all".

    Raises:
        ValueError: As for `vote`, or the spacing is not valid.
    """
    candidates, number = find_candidates(hu, threshold_hu=threshold_hu)
    predicted = vote(prediction, candidates, number, majority_over=majority_over) > 0
    arteries = vote(reference, candidates, number, majority_over=majority_over)
    volumes = component_sizes(candidates, number) * voxel_volume_mm3(spacing_mm)
    by_artery = {
        artery: tally_lesions(volumes, predicted, arteries == artery).without_fp()
        for artery in np.unique(arteries[arteries > 0]).tolist()
    }
    return LesionMatch(tally_lesions(volumes, predicted, arteries > 0), by_artery)
