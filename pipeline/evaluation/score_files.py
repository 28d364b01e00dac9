"""Reads the files of evaluate: a row for each patient, and the summary over the patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import PipelineError, file_fault
from pipeline.evaluation.summary import summarise
from pipeline.evaluation.tables import text_of
from pipeline.settings import Evaluation
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.roles import has_folds


def read_scores(layout: Layout, experiment: str, subsets: Sequence[int]) -> pd.DataFrame:
    """An experiment's rows of the patients of these subsets, by case; undefined values are NaN.

    Raises:
        PipelineError: the table is missing or damaged.
    """
    path = layout.scores(experiment)
    if not path.exists():
        raise PipelineError(f"{path}: not there; run evaluate for experiment {experiment} first")
    risks = dict.fromkeys(("risk_reference", "risk_prediction"), str)
    names: Any = dict.fromkeys(("case", "group"), text_of)
    try:
        # a group may be called nan
        nan: Any = {column: ["nan"] for column in pd.read_csv(path, nrows=0) if column not in names}
        options: Any = {"dtype": risks, "converters": names, "keep_default_na": False}
        scores: pd.DataFrame = pd.read_csv(path, na_values=nan, **options)
    except (ValueError, OSError) as error:
        raise _fault(path, str(error), experiment) from None
    if missing := {"case", "subset"} - set(scores):
        raise _fault(path, f"no column {min(missing)}", experiment)
    return scores[scores["subset"].isin(list(subsets))].set_index("case")


def read_summary(
    layout: Layout, experiment: str, evaluation: Evaluation, seed: int, subsets: Sequence[int]
) -> dict[str, Any]:
    """An experiment's summary over these subsets; computed anew if the file covers more subsets.

    Raises:
        PipelineError: the experiment has not been evaluated.
    """
    summary = read_json(layout.summary(experiment))
    if summary["subsets"] == list(subsets):
        return summary
    rows = read_scores(layout, experiment, subsets).reset_index().to_dict("records")
    threshold_hu = summary["settings"]["postprocess"]["threshold_hu"]
    patients = [{str(column): value for column, value in row.items()} for row in rows]
    folds = has_folds(layout)
    return summarise(patients, evaluation, seed, threshold_hu=threshold_hu, folds=folds)


def _fault(path: Path, fault: str, experiment: str) -> PipelineError:
    remedy = "delete it and run again, which scores that experiment anew"
    return file_fault(path, fault, f"the scores of experiment {experiment}", remedy)
