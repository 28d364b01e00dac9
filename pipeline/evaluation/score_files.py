"""Reads the files of evaluate: a row for each patient, and the summary over the patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import PipelineError, file_fault
from pipeline.evaluation.patient_scores import SET, Row, by_network, patient_means
from pipeline.evaluation.summary import summarise, summarise_external
from pipeline.evaluation.tables import text_of, write_csv
from pipeline.settings import Evaluation
from pipeline.storage.batches import batches_in
from pipeline.storage.files import read_json, remembered, write_json
from pipeline.storage.layout import Layout, folder_of
from pipeline.storage.roles import has_folds


def read_scores(
    layout: Layout,
    experiment: str,
    subsets: Sequence[int],
    repeat: int | None = None,
    external: str = "",
) -> pd.DataFrame:
    """A row for each patient of these subsets, by case; undefined values are NaN.

    Of a repeated experiment it holds the patient's means over the repeats, or one repeat's values.
    Of an `external` data set it holds that set's patients alone: their means over all networks, or
    one repeat's values of the first subset.

    Raises:
        PipelineError: the table is missing or damaged.
    """
    tested = subsets[:1] if external and repeat is not None else subsets
    scores = _read_rows(layout, experiment, tested, external)
    if external and repeat is None:
        scores = pd.DataFrame(by_network(_records(scores)))
    if "repeat" in scores:
        columns = [column for column in scores if column != "repeat"]
        chosen = scores if repeat is None else scores[scores["repeat"] == repeat]
        scores = pd.DataFrame(patient_means(_records(chosen)), columns=columns)
    return scores.set_index("case")


def _read_rows(
    layout: Layout, experiment: str, subsets: Sequence[int], external: str = ""
) -> pd.DataFrame:
    path = layout.scores(experiment)
    if not path.exists():
        raise PipelineError(f"{path}: not there; run evaluate for experiment {experiment} first")
    risks = dict.fromkeys(("risk_reference", "risk_prediction"), str)
    names: Any = dict.fromkeys(("case", "group", SET), text_of)
    try:
        # a group may be called nan
        nan: Any = {column: ["nan"] for column in pd.read_csv(path, nrows=0) if column not in names}
        options: Any = {"dtype": risks, "converters": names, "keep_default_na": False}
        scores: pd.DataFrame = pd.read_csv(path, na_values=nan, **options)
    except (ValueError, OSError) as error:
        raise _fault(path, str(error), experiment) from None
    if missing := {"case", "subset"} - set(scores):
        raise _fault(path, f"no column {min(missing)}", experiment)
    row = [column for column in ("case", "subset", "repeat") if column in scores]
    if (again := scores.duplicated(row)).any():
        raise _fault(path, f"case {scores['case'][again].iloc[0]} twice", experiment)
    numbers = scores.drop(columns=[*names, *risks], errors="ignore")
    if len(scores) and (texts := list(numbers.select_dtypes(exclude="number"))):
        raise _fault(path, f"text in column {texts[0]}", experiment)
    if external and (SET not in scores or external not in set(scores[SET])):
        raise _fault(path, f"no patient of the external data set {external}", experiment)
    if SET in scores:
        scores = scores[scores[SET] == external].drop(columns=SET)
    return scores[scores["subset"].isin(list(subsets))]


def _records(scores: pd.DataFrame) -> list[Row]:
    rows = scores.to_dict("records")
    return [{str(column): value for column, value in row.items()} for row in rows]


def read_summary(
    layout: Layout,
    experiment: str,
    evaluation: Evaluation,
    seed: int,
    subsets: Sequence[int],
    external: str = "",
) -> dict[str, Any]:
    """An experiment's summary over these subsets; computed anew if the file covers more subsets.

    That of an `external` data set is over the patients of that set alone.

    Raises:
        PipelineError: the experiment has not been evaluated.
    """
    summary = read_json(layout.summary(experiment))
    if summary["subsets"] == list(subsets) and not external:
        return summary
    if summary["subsets"] == list(subsets) and external in summary.get("external", {}):
        of_set: dict[str, Any] = summary["external"][external]
        return of_set
    rows = _records(_read_rows(layout, experiment, subsets, external))
    threshold_hu = summary["settings"]["postprocess"]["threshold_hu"]
    if external:
        return summarise_external(rows, subsets, evaluation, seed, threshold_hu=threshold_hu)
    folds = has_folds(layout)
    return summarise(rows, evaluation, seed, threshold_hu=threshold_hu, folds=folds)


def _fault(path: Path, fault: str, experiment: str) -> PipelineError:
    remedy = "delete it and run again, which scores that experiment anew"
    return file_fault(path, fault, f"the scores of experiment {experiment}", remedy)


def write_rows(layout: Layout, part: str, keys: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a batch's rows as CSV for people, and as JSON with their `keys`, which loses no bit.

    `part` is the batch as the layout calls it, such as `unet/batch-2of4`.
    """
    write_csv(layout.scores(part), rows)
    # the order of the columns is that of the final table
    listed = [[key, list(row.items())] for key, row in zip(keys, rows, strict=True)]
    write_json(layout.summary(part), {"rows": listed, "outputs": []})


def scored_in_batches(layout: Layout, experiment: str) -> dict[str, Row]:
    """The rows of all batches of an experiment, by their keys."""
    paths = batches_in(folder_of(layout.summary(experiment)))
    contents = [remembered(path) or {} for path in paths]
    return {key: dict(row) for content in contents for key, row in content.get("rows", [])}
