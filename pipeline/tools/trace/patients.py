"""The patient that a trace follows: whose a result is, and which results count the patient."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.evaluation.tables import text_of
from pipeline.storage.files import read_json
from pipeline.storage.folders import RECORD
from pipeline.storage.layout import Layout
from pipeline.tools.trace.lineage import Chain

# what one patient's result passes through; a training is of many patients
OF_A_CASE = ("compare", "tabulate", "draw", "report", "evaluate", "postprocess", "predict")
OF_THE_SCORED = ("compare", "tabulate", "evaluate", "report")


def case_of(path: Path, record: Path, content: Mapping[str, Any]) -> str:
    """The case of a store or mask; "" of what is of several."""
    if content["stage"] not in OF_A_CASE:
        return ""
    cases = cases_of(record.with_name(record.name.replace(RECORD, ".json")))
    relative = path.relative_to(record.parent).as_posix()
    return next((case for case, name in cases.items() if f"{relative}/".startswith(f"{name}/")), "")


def cases_of(manifest: Path) -> dict[str, str]:
    """Case → the store or mask that a manifest lists of it, relative to its folder."""
    content = read_json(manifest) if manifest.is_file() else {}
    cases = content.get("cases")
    if not isinstance(cases, dict):
        return {}
    # an ensemble's uncertainty has the name of the mask, which stands before it
    paths = {Path(name).name: name for name in reversed(content.get("outputs", []))}
    named = {
        case: Path(entry["file"]).name
        if isinstance(entry, dict) and "file" in entry
        else f"{case}.zarr"
        for case, entry in cases.items()
    }
    return {case: paths.get(name, name) for case, name in named.items()}


def is_about_its_case(chain: Chain) -> bool:
    """Whether the chain's case was ingested, and is among those that the result is of.

    Raises:
        PipelineError: scores are damaged.
    """
    stages = {step.content["stage"] for step in chain.steps.values()}
    cases = {link.case for step in chain.steps.values() for link in step.raw}
    if chain.case not in cases:
        return False
    if chain.first.content["stage"] not in OF_A_CASE:
        return True
    return "predict" in stages and not _leaves_out(chain, chain.case)


def _leaves_out(chain: Chain, case: str) -> bool:
    """Whether a case has no part in a table's or a report's numbers, as far as the scores tell."""
    stage = str(chain.first.content["stage"])
    if stage not in OF_THE_SCORED:
        return False
    scored = [step for step in chain.steps.values() if step.content["stage"] == "evaluate"]
    rows = [row for step in scored for row in _scored(chain.root / str(step.content["written"]))]
    own = {subset for name, subset in rows if name == case}
    if rows and not own:
        split = Layout(chain.root, chain.first.content["dataset"]).split
        # a report shows the unlabelled, too, but no healthy scan
        return stage != "report" or (
            split.is_file() and case not in read_json(split).get("unlabelled", [case])
        )
    subsets = _subsets(chain)
    return bool(rows) and subsets is not None and not own & subsets


def _subsets(chain: Chain) -> set[int] | None:
    """The subsets whose patients a table or a report counts; None of scores, which are of all.

    Those that the experiments of all its rows share, also of rows that the chain does not follow.
    """
    first = chain.first.content
    if first["stage"] == "tabulate":
        layout = Layout(chain.root, first["dataset"])
        rows = chain.first.made[1]["settings"]["table"]["rows"]
        scores = [_scored(layout.scores(row["experiment"])) for row in rows]
        subsets = [{subset for _, subset in patients} for patients in scores if patients]
        return set.intersection(*subsets) if subsets else None
    # a report has the numbers of the comparison
    tables = [step for step in chain.steps.values() if step.content["stage"] == "compare"]
    return set(tables[0].made[1]["settings"]["subsets"]) if tables else None


def _scored(path: Path) -> list[tuple[str, int]]:
    """Case and subset of each patient in the scores that `evaluate` wrote; none of no file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [(text_of(row["case"]), int(row["subset"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise PipelineError(
            f"{path}: damaged, expected a row a patient with case and subset; run evaluate again"
        ) from None
