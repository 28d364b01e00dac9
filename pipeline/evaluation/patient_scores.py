"""A patient's scores, a row of a table; docs/reference/metrics.md explains every column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from grcsf.agatston import RISK_GROUPS, CalciumScore, artery_scores, calcium_score, risk_group
from grcsf.calcium import THRESHOLD_HU, LesionMatch, claim_candidates, match_lesions
from grcsf.components import lesion_sizes, voxel_volume_mm3
from grcsf.lesions import LesionCounts, Tally, lesion_f1, lesion_scores, volume_difference_mm3
from grcsf.metrics import VoxelCounts, count_voxels, mean_defined, voe, voxel_scores
from pipeline.settings import Evaluation
from pipeline.storage.masks import Mask

Row = dict[str, Any]
Labels = npt.NDArray[np.integer[Any]]
ARTERIES = {1: "LAD", 2: "LCX", 3: "RCA"}
SET = "external"  # the column that names a row's external data set; "" of the data set's own


def voxel_row(label: Labels, final: Mask, raw: Mask, spacing_mm: Sequence[float]) -> Row:
    """Voxel and lesion scores after post-processing, and voxel scores before it (`raw_`).

    All are (z, y, x); `label` has 0 = background, `final` and `raw` have 1 = lesion.
    """
    reference = np.asarray(label > 0)
    sizes, predicted = lesion_sizes(reference), lesion_sizes(final)
    voxel = voxel_volume_mm3(spacing_mm)
    return {
        "reference_voxels": int(sizes.sum()),
        "predicted_voxels": int(predicted.sum()),
        "reference_volume_mm3": float(sizes.sum() * voxel),
        "predicted_volume_mm3": float(predicted.sum() * voxel),
        "reference_lesions": len(sizes),
        "predicted_lesions": len(predicted),
        "largest_lesion_voxels": int(sizes.max(initial=0)),
        **_counted("", count_voxels(final, reference)),
        "lesion_f1": lesion_f1(final, reference),
        "lesion_count_difference": abs(len(predicted) - len(sizes)),
        "volume_difference_mm3": volume_difference_mm3(final, reference, spacing_mm),
        **_counted("raw_", count_voxels(raw, reference)),
    }


def calcium_row(
    label: Labels,  # (z, y, x) integers, 0 = background, 1 LAD, 2 LCX, 3 RCA
    final: Mask,  # (z, y, x) bool, 1 = calcium, after post-processing
    hu: npt.NDArray[np.int16],  # (z, y, x), HU, the whole volume
    spacing_mm: Sequence[float],  # (z, y, x) in mm
    evaluation: Evaluation,
    threshold_hu: float = THRESHOLD_HU,  # calcium exceeds it
) -> Row:
    """The scores of the orCaScore challenge, and those of the threshold alone (`threshold_`).

    As in the challenge, lesions are whole candidates in reference and prediction: they are matched
    and measured (Agatston, volume) as such.
    """
    vote: Any = {"threshold_hu": threshold_hu, "majority_over": evaluation.majority_over}
    match = match_lesions(final, label, hu, spacing_mm, **vote)
    above = np.asarray(hu > threshold_hu)
    alone = match_lesions(above, label, hu, spacing_mm, **vote).total
    claimed = claim_candidates(label, hu, **vote)
    marked = claim_candidates(final, hu, **vote) > 0
    step_mm = evaluation.agatston_slice_mm
    measure: Any = {"threshold_hu": threshold_hu, "reference_spacing_mm": step_mm}
    reference = artery_scores(claimed, hu, spacing_mm, **measure)
    predicted = artery_scores(claimed * marked, hu, spacing_mm, **measure)
    return {
        **tally_columns(match.total),
        **lesion_columns(match.total),
        **_counted("threshold_", count_voxels(above, np.asarray(label > 0))),
        **tally_columns(alone, "threshold_"),
        **_total_columns("reference", sum(reference.values(), start=CalciumScore())),
        **_total_columns("prediction", calcium_score(marked, hu, spacing_mm, **measure)),
        **_artery_columns(match, reference, predicted),
    }


def lesion_columns(counts: LesionCounts) -> Row:
    """Scores of Table 2 after post-processing, from a patient's or from pooled counts."""
    return {**lesion_scores(counts), "voe_volume": voe(counts.volume_mm3)}


def tally_columns(counts: LesionCounts, prefix: str = "") -> Row:
    """Counts by number and by volume as columns; `pooled_lesions` reads them back."""
    number, volume = counts.number, counts.volume_mm3
    return {
        **{f"{prefix}lesions_{part}": getattr(number, part) for part in ("tp", "fp", "fn")},
        **{f"{prefix}volume_{part}_mm3": getattr(volume, part) for part in ("tp", "fp", "fn")},
    }


def pooled_lesions(rows: pd.DataFrame, prefix: str = "") -> LesionCounts:
    """The sum of all patients' lesion counts."""
    parts = ("tp", "fp", "fn")
    number = (sum(rows[f"{prefix}lesions_{part}"].tolist()) for part in parts)
    volume = (sum(rows[f"{prefix}volume_{part}_mm3"].tolist()) for part in parts)
    return LesionCounts(Tally(*number), Tally(*volume))


def pooled_voxels(rows: pd.DataFrame, prefix: str = "") -> VoxelCounts:
    """The sum of all patients' voxel counts."""
    return VoxelCounts(*(sum(rows[f"{prefix}{part}"].tolist()) for part in _PARTS))


def by_repeat(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Rows of each repeat of an experiment; of one that is not repeated, all are of the first."""
    if "repeat" not in rows:
        return {1: rows}
    return {number: rows[rows["repeat"] == number] for number in rows["repeat"].unique().tolist()}


def by_network(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of an external set, which the networks of all subsets test: each counts as a repeat."""
    repeats = rows["repeat"].tolist() if "repeat" in rows else [1] * len(rows)
    networks = list(zip(rows["subset"].tolist(), repeats, strict=True))
    numbers = {network: number for number, network in enumerate(sorted({*networks}), start=1)}
    if len(numbers) == 1:
        return rows
    return rows.assign(subset=1, repeat=[numbers[network] for network in networks])


def patient_means(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each patient: every number's mean over the repeats in which it is defined.

    So a patient's score is undefined only where it is in all repeats. The predicted risk group is
    that of the mean Agatston score. Rows of an experiment that is not repeated stay as they are.
    """
    if "repeat" not in rows:
        return rows
    places, patients = pd.factorize(rows["case"])
    means: dict[str, list[Any]] = {}
    for column in rows.columns.drop("repeat"):  # one at a time, as there may be many patients
        if column == "risk_prediction":
            continue
        values: list[list[Any]] = [[] for _ in patients]
        for place, value in zip(places.tolist(), rows[column].tolist(), strict=True):
            values[place].append(value)
        means[column] = list(map(mean_over_repeats, values))
    if "risk_prediction" in rows:
        scores = means["agatston_prediction"]
        means["risk_prediction"] = [RISK_GROUPS[risk_group(score)] for score in scores]
    return pd.DataFrame(means, columns=rows.columns.drop("repeat"))


def mean_over_repeats(values: Sequence[Any]) -> Any:
    """The mean of the defined values; what is the same in all repeats, such as text, stays so."""
    return values[0] if len(set(values)) == 1 else mean_defined(values)[0]


_PARTS = ("tp", "fp", "fn", "tn")


def _counted(prefix: str, counts: VoxelCounts) -> Row:
    columns = {part: getattr(counts, part) for part in _PARTS} | voxel_scores(counts)
    return {f"{prefix}{name}": value for name, value in columns.items()}


def _total_columns(side: str, score: CalciumScore) -> Row:
    return {
        f"agatston_{side}": score.agatston,
        f"calcium_volume_{side}_mm3": score.volume_mm3,
        f"risk_{side}": RISK_GROUPS[risk_group(score.agatston)],
    }


def _artery_columns(
    match: LesionMatch, reference: dict[int, CalciumScore], predicted: dict[int, CalciumScore]
) -> Row:
    columns: Row = {}
    for artery in sorted({*ARTERIES, *match.by_artery}):
        name = ARTERIES.get(artery, f"label{artery}")
        counts = match.by_artery.get(artery, LesionCounts().without_fp())
        scores = lesion_scores(counts)
        columns |= {
            f"lesions_tp_{name}": counts.number.tp,
            f"lesions_fn_{name}": counts.number.fn,
            f"volume_tp_mm3_{name}": counts.volume_mm3.tp,
            f"volume_fn_mm3_{name}": counts.volume_mm3.fn,
            f"sensitivity_lesions_{name}": scores["sensitivity_lesions"],
            f"sensitivity_volume_{name}": scores["sensitivity_volume"],
            f"agatston_reference_{name}": reference.get(artery, CalciumScore()).agatston,
            f"agatston_prediction_{name}": predicted.get(artery, CalciumScore()).agatston,
        }
    return columns
