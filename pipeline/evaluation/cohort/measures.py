"""What the mask of a scan measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from grcsf.agatston import RISK_GROUPS, calcium_score, risk_group
from grcsf.calcium import claim_candidates
from grcsf.components import lesion_sizes, voxel_volume_mm3
from pipeline.settings import Dataset
from pipeline.storage.masks import Mask, read_hu
from pipeline.storage.zarr_store import Store


class Measures(NamedTuple):
    """Lesions of a mask; Agatston score and risk group of coronary calcium alone."""

    lesions: int
    lesion_ml: float
    agatston: float | None
    risk: str | None  # of `RISK_GROUPS`


def measure_mask(dataset: Dataset, mask: Mask, store: Store) -> Measures:
    """Measure a mask (z, y, x), 1 = lesion, on the grid of its case's `store`.

    Raises:
        PipelineError: calcium is asked for in an image that is not in HU.
    """
    spacing: Any = store.attrs["spacing"]
    sizes = lesion_sizes(mask)
    ml = float(sizes.sum() * voxel_volume_mm3(spacing) / 1000)
    agatston = risk = None
    if dataset.postprocess.method == "calcium":
        agatston = claimed_agatston(
            dataset, mask, read_hu(store), [float(side) for side in spacing]
        )
        risk = RISK_GROUPS[risk_group(agatston)]
    return Measures(len(sizes), ml, agatston, risk)


def in_words(measured: Mapping[str, Any]) -> str:
    """Volume, number of lesions and perhaps the Agatston score as words."""
    lesions, ml = measured["lesions"], float(f"{measured['lesion_ml']:.3g}")
    line = f"{ml:g} ml, {lesions} lesion{'' if lesions == 1 else 's'}"
    return f"{line}, Agatston score {measured['agatston']:.1f}" if "agatston" in measured else line


def claimed_agatston(
    dataset: Dataset, mask: Mask, hu: npt.NDArray[np.int16], spacing: Sequence[float]
) -> float:
    """The Agatston score of all candidates that the mask claims, as evaluate scores them."""
    evaluation, above = dataset.evaluation, dataset.postprocess.threshold_hu
    voters, step_mm = evaluation.majority_over, evaluation.agatston_slice_mm
    claimed = claim_candidates(mask, hu, threshold_hu=above, majority_over=voters)
    calcium = np.asarray(claimed > 0)
    score = calcium_score(calcium, hu, spacing, threshold_hu=above, reference_spacing_mm=step_mm)
    return score.agatston
