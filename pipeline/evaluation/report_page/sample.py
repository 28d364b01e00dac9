"""Which cases the report shows where there are too many to show all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

SHOWN_AT_MOST = 1000  # cases; of more, the chosen ones alone
CHOSEN = 240  # about so many, shared by the experiments and the ways of choosing
UNSCORED = 20  # of those without reference
WAYS = 4  # worst, middle, best, missed

Scores = Mapping[str, pd.DataFrame]
"""Experiment → a row for each patient, by case, with `dice`, `recall` and `reference_voxels`."""
COLUMNS = ("dice", "recall", "reference_voxels")


def sampled(cases: Sequence[str], own: Scores, scores: Scores) -> list[str]:
    """All cases, or if they are more than `SHOWN_AT_MOST` the `chosen` ones, in their order.

    `scores` are those of all cases with reference, `own` without those of external data sets.
    """
    if len(cases) <= SHOWN_AT_MOST:
        return list(cases)
    kept = chosen(own) | chosen(scores)
    scored = set(next(iter(scores.values())).index)
    others = [case for case in cases if case not in scored]
    kept.update(others[:: max(1, len(others) // UNSCORED)][:UNSCORED])
    return [case for case in cases if case in kept]


def chosen(scores: Scores) -> set[str]:
    """Of each experiment the cases of lowest, middle and highest Dice, and the largest missed.

    A case is missed where none of its lesion is found. Those are with them of which two experiments
    differ most. Equal values are taken in the order of the rows, so equal scores choose equally.
    """
    each = max(1, CHOSEN // (WAYS * len(scores)))
    kept: set[str] = set()
    for rows in scores.values():
        ordered = rows["dice"].dropna().sort_values(kind="stable").index
        middle = max(0, (len(ordered) - each) // 2)
        for part in (ordered[:each], ordered[middle : middle + each], ordered[-each:]):
            kept.update(part)
        missed = rows[(rows["recall"] == 0) & (rows["reference_voxels"] > 0)]
        sizes = missed["reference_voxels"].sort_values(ascending=False, kind="stable")
        kept.update(sizes.index[:each])
    for one, other in combinations([rows["dice"] for rows in scores.values()], 2):
        apart = (one - other).abs().dropna()
        if len(apart):
            kept.add(str(apart.idxmax()))
    return kept
