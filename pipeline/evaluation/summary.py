"""The summary over patients: means, intervals, pooled lesions, scores by lesion size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from grcsf.agatston import RISK_GROUPS
from grcsf.agreement import (
    icc_absolute_agreement,
    icc_interval,
    kappa_interval,
    limits_of_agreement,
    linear_weighted_kappa,
)
from grcsf.lesions import SIZE_GROUPS, Tally, quartile_groups, size_group
from grcsf.metrics import VoxelCounts, f1, mean_defined, precision, recall, voe
from grcsf.statistics import (
    Interval,
    bootstrap_interval,
    mean_of_group_means,
    standard_deviation,
)
from pipeline.evaluation.patient_scores import (
    Row,
    by_network,
    by_repeat,
    lesion_columns,
    mean_over_repeats,
    patient_means,
    pooled_lesions,
    pooled_voxels,
)
from pipeline.settings import Evaluation

VOXEL = ("dice", "iou", "precision", "recall", "voe", "fpr_percent")
LESION = ("lesion_f1", "lesion_count_difference", "volume_difference_mm3")
CALCIUM = (
    "f1_volume",
    "sensitivity_volume",
    "ppv_volume",
    "sensitivity_lesions",
    "ppv_lesions",
    "voe_volume",
)


def summarised(evaluation: Evaluation) -> list[str] | None:
    """The columns of a table of scores that its summary is of; None: all of them."""
    if evaluation.metrics == "calcium":
        return None
    return ["group", "reference_voxels", *VOXEL, *LESION, *(f"raw_{name}" for name in VOXEL)]


def summarise(
    rows: Sequence[Row] | pd.DataFrame,
    evaluation: Evaluation,
    seed: int,
    *,
    threshold_hu: float,
    folds: bool = False,  # whether the subsets are folds of one set of patients
) -> dict[str, Any]:
    """The summary of one experiment; undefined values are None.

    Of many patients a table takes a tenth of the memory that rows do.
    With several subsets, a mean is the mean of the subsets' means; otherwise, and over folds, which
    test each patient once, that of the patients.
    Of a repeated experiment a patient's value is the mean over the repeats (`patient_means`), on
    which means and intervals rest; beside them stand each repeat's own mean and their standard
    deviation. What is pooled over patients, or tells agreement, is computed for each repeat and
    averaged, its bounds like its value: a patient is counted once in either. `threshold_hu` is that
    of the lesions and of the threshold-alone baseline.
    """
    table = pd.DataFrame(rows)
    repeats, table = by_repeat(table), patient_means(table)
    names = [*VOXEL, *LESION, *(f"raw_{name}" for name in VOXEL)]
    calcium = evaluation.metrics == "calcium"
    if calcium:
        names += [*CALCIUM, *(f"threshold_{name}" for name in VOXEL)]
    subsets = sorted(set(table["subset"].tolist()))
    summary: dict[str, Any] = {
        "patients": len(table),
        **({"repeats": len(repeats)} if len(repeats) > 1 else {}),
        "subsets": subsets,
        "mean_over": "subsets" if len(subsets) > 1 and not folds else "patients",
        "confidence": evaluation.confidence,
        "scores": {
            name: _score(table, name, evaluation, seed, folds=folds)
            | _over_repeats(repeats, name, folds=folds)
            for name in names
        },
        "by_lesion_size": by_lesion_size(table),
        "by_lesion_quartile": by_lesion_quartile(table),
        "by_group": by_group(table),
    }
    if calcium:
        summary["calcium"] = {
            "threshold_hu": threshold_hu,
            "majority_over": evaluation.majority_over,
            "agatston_slice_mm": evaluation.agatston_slice_mm,
            **_calcium_over_repeats(repeats, evaluation, seed),
        }
    plain: dict[str, Any] = _without_nan(summary)
    return plain


def summarise_external(
    rows: Sequence[Row] | pd.DataFrame,
    subsets: Sequence[int],
    evaluation: Evaluation,
    seed: int,
    *,
    threshold_hu: float,
) -> dict[str, Any]:
    """The summary of one experiment over an external data set, whose cases all networks test.

    A patient's value is the mean over the networks of all subsets and repeats, which count as
    repeats do in `summarise`; so every patient counts once.
    """
    networks = by_network(pd.DataFrame(rows))
    summary = summarise(networks, evaluation, seed, threshold_hu=threshold_hu, folds=True)
    return {**summary, "subsets": list(subsets)}


def by_lesion_size(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Voxel scores of the patients with 1–100, 101–1,000 and > 1,000 lesion voxels (Fig. 9)."""
    sized = _with_lesion(rows)
    sizes = sized["reference_voxels"].map(size_group)
    return {name: _group(sized[sizes == name]) for name in SIZE_GROUPS}


def by_group(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Voxel scores by cohort, hospital or vendor; empty if the data set has none."""
    scores = rows[["group", "reference_voxels", *VOXEL]].groupby("group")
    groups = {str(group): _group(own) for group, own in scores if group}
    return dict(sorted(groups.items()))


def by_lesion_quartile(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Voxel scores of each quarter of the patients by lesion voxels, 1 = smallest."""
    listed = _with_lesion(rows)
    quarters = quartile_groups(listed["reference_voxels"].tolist())
    return {str(quarter): _group(listed[quarters == quarter]) for quarter in (1, 2, 3, 4)}


def calcium_summary(rows: pd.DataFrame, evaluation: Evaluation, seed: int) -> dict[str, Any]:
    """Pooled challenge scores after and before post-processing, agreement, and threshold alone."""
    prefix = "lesions_tp_"
    columns = (str(name) for name in rows if rows[name].notna().any())
    arteries = sorted(name.removeprefix(prefix) for name in columns if name.startswith(prefix))
    return {
        "pooled": lesion_columns(pooled_lesions(rows)),
        "pooled_raw": voxel_columns(pooled_voxels(rows, "raw_")),
        "pooled_by_artery": {name: _artery(rows, name) for name in arteries},
        "agatston": _agreement(rows, "agatston", evaluation) | _risk(rows, evaluation, seed),
        "calcium_volume": _agreement(rows, "calcium_volume", evaluation, "_mm3"),
        "threshold_alone": {
            "dice": mean_defined(rows["threshold_dice"].tolist())[0],
            "pooled": lesion_columns(pooled_lesions(rows, "threshold_")),
            "pooled_raw": voxel_columns(pooled_voxels(rows, "threshold_")),
        },
    }


def _agreement(
    rows: pd.DataFrame, score: str, evaluation: Evaluation, unit: str = ""
) -> dict[str, float]:
    """Agreement of a calcium score with the reference's: ICC(A,1), limits of agreement."""
    predicted = rows[f"{score}_prediction{unit}"].to_numpy(float)
    reference = rows[f"{score}_reference{unit}"].to_numpy(float)
    pairs = np.column_stack([reference, predicted])
    interval = icc_interval(pairs, confidence=evaluation.confidence)
    limits = limits_of_agreement(predicted.tolist(), reference.tolist())
    return {
        "icc": icc_absolute_agreement(pairs),
        "icc_low": interval.low,
        "icc_high": interval.high,
        "bias": limits.bias,
        "limit_low": limits.low,
        "limit_high": limits.high,
    }


def _risk(rows: pd.DataFrame, evaluation: Evaluation, seed: int) -> dict[str, float]:
    reference = list(map(RISK_GROUPS.index, rows["risk_reference"]))
    predicted = list(map(RISK_GROUPS.index, rows["risk_prediction"]))
    given = (reference, predicted, len(RISK_GROUPS))
    level, resamples = evaluation.confidence, evaluation.bootstrap_samples
    interval = kappa_interval(*given, seed=seed, confidence=level, resamples=resamples)
    return {
        "risk_kappa": linear_weighted_kappa(*given),
        "risk_kappa_low": interval.low,
        "risk_kappa_high": interval.high,
        "same_risk": sum(a == b for a, b in zip(reference, predicted, strict=True)),
    }


def voxel_columns(counts: VoxelCounts) -> Row:
    """Scores of Table 2 before post-processing, from pooled voxel counts."""
    ppv = precision(counts)
    return {"f1": f1(counts), "sensitivity": recall(counts), "ppv": ppv, "voe": voe(counts)}


def _score(
    rows: pd.DataFrame, name: str, evaluation: Evaluation, seed: int, *, folds: bool
) -> dict[str, Any]:
    values, subsets = rows[name].tolist(), rows["subset"].tolist()
    grouped = mean_of_group_means(values, subsets)
    interval = patients_interval(values, [] if folds else subsets, evaluation, seed)
    return {
        "mean": mean_defined(values)[0] if folds else grouped.mean,
        "low": interval.low,
        "high": interval.high,
        "undefined": grouped.undefined,
        "by_subset": {str(subset): mean for subset, mean in grouped.by_group.items()},
    }


def _over_repeats(repeats: Mapping[int, pd.DataFrame], name: str, *, folds: bool) -> dict[str, Any]:
    """Each repeat's own mean of a score, and their standard deviation; nothing of a single one."""
    if len(repeats) == 1:
        return {}
    means = {
        str(repeat): mean_of_group_means(
            rows[name].tolist(), [1] * len(rows) if folds else rows["subset"].tolist()
        ).mean
        for repeat, rows in repeats.items()
    }
    return {"by_repeat": means, "sd_over_repeats": standard_deviation(means.values())}


def _calcium_over_repeats(
    repeats: Mapping[int, pd.DataFrame], evaluation: Evaluation, seed: int
) -> dict[str, Any]:
    """Means of what `calcium_summary` says of each repeat, and their standard deviations."""
    each = [calcium_summary(rows, evaluation, seed) for rows in repeats.values()]
    spread = {"sd_over_repeats": _combined(each, standard_deviation)} if len(each) > 1 else {}
    return {**_combined(each, mean_over_repeats), **spread}


def _combined(parts: Sequence[Any], combine: Callable[[Sequence[Any]], Any]) -> Any:
    """What the repeats have under the same keys, combined figure by figure."""
    if not isinstance(parts[0], Mapping):
        return combine(parts)
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: _combined([part[key] for part in parts if key in part], combine) for key in keys}


def patients_interval(
    values: Sequence[float], subsets: Sequence[int], evaluation: Evaluation, seed: int
) -> Interval:
    """Bootstrap interval of a mean over patients, or of the mean of several subsets' means."""
    groups = subsets if len(set(subsets)) > 1 else None
    level, resamples = evaluation.confidence, evaluation.bootstrap_samples
    return bootstrap_interval(values, groups, seed=seed, confidence=level, resamples=resamples)


def _with_lesion(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["reference_voxels"] > 0]


def _group(rows: pd.DataFrame) -> dict[str, Any]:
    voxels = rows["reference_voxels"].tolist()
    means = {name: mean_defined(rows[name].tolist())[0] for name in VOXEL}
    return {
        "patients": len(rows),
        "voxels": [min(voxels), max(voxels)] if voxels else None,
        **means,
    }


def _artery(rows: pd.DataFrame, name: str) -> dict[str, float]:
    # a patient may have no column of an artery that another's reference has
    found, missed, found_mm3, missed_mm3 = (
        math.fsum(rows[f"{column}_{name}"].fillna(0))
        for column in ("lesions_tp", "lesions_fn", "volume_tp_mm3", "volume_fn_mm3")
    )
    return {
        "lesions": found + missed,
        "sensitivity_lesions": recall(Tally(found, math.nan, missed)),
        "sensitivity_volume": recall(Tally(found_mm3, math.nan, missed_mm3)),
    }


def _without_nan(value: Any) -> Any:
    """The value with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
