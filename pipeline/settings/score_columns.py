"""The columns of the comparison: those of the paper's Table 1, or of Table 2 for calcium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    key: str  # name in the CSV
    title: str
    patient: str  # the per-patient column of the same score, which the paired test compares
    where: tuple[str, ...]  # path of keys to its value in a summary
    low_is_best: bool = False  # as for errors
    digits: int = 2  # decimals of a confidence interval's ends


def _mean(key: str, title: str, **more: Any) -> Column:
    return Column(key, title, key, ("scores", key), **more)


def _pooled(name: str, title: str, **more: Any) -> Column:
    return Column(f"pooled_{name}", title, name, ("calcium", "pooled", name), **more)


def _before(name: str, title: str, patient: str, **more: Any) -> Column:
    return Column(f"before_{name}", title, patient, ("calcium", "pooled_raw", name), **more)


DICE = _mean("dice", "Dice")
TABLE_1 = (
    DICE,
    _mean("iou", "IoU"),
    _mean("precision", "Precision"),
    _mean("recall", "Recall"),
    _mean("voe", "VOE", low_is_best=True),
    _mean("fpr_percent", "FPR (%)", low_is_best=True, digits=3),
)
TABLE_2 = (
    _pooled("f1_volume", "F1 vol"),
    _pooled("sensitivity_volume", "Sens vol"),
    _pooled("ppv_volume", "PPV vol"),
    _pooled("sensitivity_lesions", "Sens lesion"),
    _pooled("ppv_lesions", "PPV lesion"),
    _pooled("voe_volume", "VOE", low_is_best=True),
    _before("f1", "F1, before", "raw_dice"),
    _before("sensitivity", "Sens, before", "raw_recall"),
    _before("ppv", "PPV, before", "raw_precision"),
    _before("voe", "VOE, before", "raw_voe", low_is_best=True),
    DICE,
)
COLUMNS = {column.key: column for column in (*TABLE_1, *TABLE_2)}
