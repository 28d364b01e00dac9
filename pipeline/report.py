"""Stage `report`: a self-contained page with tables, curves, and the slices of every test case."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
import yaml

from pipeline.evaluation import report_parts as parts
from pipeline.evaluation.case_view import CaseVolumes, open_case
from pipeline.evaluation.colours import ON_BLACK, REFERENCE, colours_of
from pipeline.evaluation.comparison import build_comparison
from pipeline.evaluation.contrast import contrast_table
from pipeline.evaluation.pages import embedded, rendered
from pipeline.evaluation.pictures import curves_picture
from pipeline.evaluation.report_page.case_figures import CaseFigure, case_figures
from pipeline.evaluation.report_page.lead import lead
from pipeline.evaluation.report_page.sample import COLUMNS, sampled
from pipeline.evaluation.report_page.slices import shown_case
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.score_pictures import SCORES, agreement_picture, group_picture
from pipeline.evaluation.tables import TextTable
from pipeline.networks.history import training_histories, validation_losses
from pipeline.settings import Dataset
from pipeline.storage.files import json_entries, read_json, write
from pipeline.storage.layout import STAGES, Layout, stage_version
from pipeline.storage.roles import external_cases, external_test_cases, labelled_test_cases

VERSION = 10
log = logging.getLogger(__name__)
Scores = Mapping[str, pd.DataFrame]
TOLD = ("group", "role", "labelled", "notes")  # of a case
CALCIUM_COLUMNS = ("risk_reference", "risk_prediction", *chain.from_iterable(SCORES.values()))


def report(
    layout: Layout,
    dataset: Dataset,
    seed: int,
    configured_by: Sequence[str] = (),
    *,
    maps: bool = True,
) -> None:
    """Write `report.html`.

    `configured_by` are the options that give a command this configuration; with them, each case
    names the command that shows it in three planes.

    Without `maps` none are shown: they are deleted at any time, once a case is predicted.

    Where the slices of all cases are too large for one page, `cases/` has a page for each case.

    Raises:
        PipelineError: the results of an earlier stage are missing or damaged.
    """
    cases, split = _listed_cases(layout), read_json(layout.split)
    set_aside = dict(json_entries(layout.cases, "set_aside"))
    experiments, subsets = list(dataset.experiments), dataset.shared_subsets
    evaluation = dataset.evaluation
    calcium = evaluation.metrics == "calcium"
    columns = [*COLUMNS, "group", *(CALCIUM_COLUMNS if calcium else ())]
    scores = {name: read_scores(layout, name, subsets, columns=columns) for name in experiments}
    asked = (evaluation, seed, subsets)
    summaries = {name: read_summary(layout, name, *asked) for name in experiments}
    comparison = build_comparison(layout, experiments, subsets, evaluation, seed)
    histories, untrained = training_histories(layout, dataset)
    colours = colours_of(experiments, ON_BLACK)
    shown = _case_parts(layout, dataset, comparison, configured_by, maps=maps)
    content: dict[str, Any] = {
        "title": layout.dataset,
        "comparison": comparison,
        **_score_parts(scores, summaries, shown["listed"] if calcium else None),
        "residual_note": parts.residual_note(dataset, given_back=not maps),
        "contrast": contrast_table(layout, dataset) if maps else None,
        "key": [("reference", REFERENCE), *colours.items()],
        **shown,
        "data_summary": parts.data_summary(dataset, cases, len(set_aside)),
        "split": parts.split_table(split, cases),
        "groups": parts.group_table(split, cases),
        "set_aside": parts.set_aside_rows(set_aside),
        "notes": parts.note_rows(cases),
        "curves": embedded(curves_picture(histories)) if histories else "",
        "untrained": untrained,
        "units": parts.unit_table(histories),
        "learnt": parts.learning_table(validation_losses(layout, dataset)),
        "seed": seed,
        "versions": ", ".join(f"{stage} {stage_version(stage)}" for stage in STAGES),
        "settings": yaml.safe_dump(dataset.model_dump(mode="json"), sort_keys=False),
    }
    write(layout.report, rendered("report.html.j2", content))
    size_mb = layout.report.stat().st_size / 1e6
    log.info("report: %s, %d cases, %.1f MB", layout.report, len(content["figures"]), size_mb)


def _listed_cases(layout: Layout) -> dict[str, Mapping[str, Any]]:
    """What the page tells of every case; equal entries are one, as there may be very many."""
    known: dict[str, Mapping[str, Any]] = {}
    cases = {}
    for case, entry in json_entries(layout.cases, "cases"):
        told = {key: entry[key] for key in TOLD if key in entry}
        cases[case] = known.setdefault(str(told), told)
    return cases


def _score_parts(
    scores: Scores, summaries: Mapping[str, Any], calcium: Container[str] | None
) -> dict[str, Any]:
    """Tables and figures of the patients' scores, by their name in the template.

    `calcium` has the cases whose calcium scores are listed; None: none has any.
    """
    cohorts = parts.cohort_table(summaries)
    return {
        "repeats": parts.repeat_table(summaries),
        "sizes": parts.size_table(summaries),
        "sizes_picture": embedded(group_picture(parts.dice_by_size(scores))),
        "cohorts": cohorts,
        "cohorts_picture": embedded(group_picture(parts.dice_by_cohort(scores))) if cohorts else "",
        "agatston": None if calcium is None else parts.agatston_table(scores, calcium),
        "agreement": "" if calcium is None else embedded(agreement_picture(scores)),
    }


def _case_parts(
    layout: Layout,
    dataset: Dataset,
    comparison: TextTable,
    configured_by: Sequence[str],
    *,
    maps: bool,
) -> dict[str, Any]:
    """The cases' figures, and the sentences that lead to them, by their name in the template."""
    subsets = dataset.shared_subsets
    # pictures show a repeat, and what they are called has to fit them
    first = {
        name: read_scores(layout, name, subsets, repeat=1, columns=COLUMNS)
        for name in dataset.experiments
    }
    scored = {name: _with_external(layout, name, subsets, rows) for name, rows in first.items()}
    unlabelled = read_json(layout.split)["unlabelled"]
    # every subset's networks predict the unlabelled cases; one figure is enough
    others = [(subsets[0], case) for case in unlabelled]
    external = external_test_cases(layout, subsets[:1])
    every = [*labelled_test_cases(layout, subsets), *external, *others]
    listed = dict.fromkeys(sampled([case for _, case in every], first, scored))
    shown = [each for each in every if each[1] in listed]
    pages = layout.report.with_name("cases")
    places = {case: f"#case-{number}" for number, (_, case) in enumerate(shown, start=1)}
    commands = {case: _view_command(case, layout, configured_by) for case in places}
    figures = _drawn(layout, dataset, shown, scored, commands, maps=maps)
    told = (comparison.numbers, first, places, len(unlabelled))
    return {
        "figures": case_figures(figures, pages, layout.dataset),
        "apart": pages.exists(),
        "listed": listed,
        "not_shown": len(every) - len(shown),
        "any_command": _view_command("CASE", layout, configured_by or ["--config", "FILE"]),
        "lead": lead(layout.dataset, dataset, *told),
    }


def _with_external(
    layout: Layout, name: str, subsets: Sequence[int], rows: pd.DataFrame
) -> pd.DataFrame:
    """The scores that figures of cases tell: those given, and of external data sets as shown."""
    sets = external_cases(layout)
    others = [read_scores(layout, name, subsets, 1, each, COLUMNS) for each in sets]
    return pd.concat([rows, *others]) if others else rows


def _drawn(
    layout: Layout,
    dataset: Dataset,
    shown: Sequence[tuple[int, str]],
    scores: Scores,
    commands: Mapping[str, str],
    *,
    maps: bool,
) -> Iterator[CaseFigure]:
    """The figure of every case of `shown`, each with its subset."""
    colours = colours_of(list(scores), ON_BLACK)
    for number, (subset, case) in enumerate(shown, start=1):
        volumes = open_case(layout, dataset, case, subset, maps=maps)
        caption, command = _caption(volumes, scores), commands[case]
        yield CaseFigure(shown_case(volumes), number, caption, colours, command=command)


def _view_command(case: str, layout: Layout, configured_by: Sequence[str]) -> str:
    """How a shell shows a case in three planes; "" where the configuration is not known."""
    if not configured_by:
        return ""
    options = [*configured_by, "--dataset", layout.dataset]
    if case.startswith("-"):  # or it would be an option
        return shlex.join(["grcsf", "view", *options, "--", case])
    return shlex.join(["grcsf", "view", case, *options])


def _caption(volumes: CaseVolumes, scores: Scores) -> str:
    if volumes.label is None:
        return "no reference"
    dice = [f"{name} {rows['dice'].loc[volumes.case]:.3f}" for name, rows in scores.items()]
    voxels = int(next(iter(scores.values()))["reference_voxels"].loc[volumes.case])
    return f"{voxels:,} lesion voxels · Dice of the whole volume: {', '.join(dice)}"
