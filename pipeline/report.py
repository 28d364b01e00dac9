"""Stage `report`: one self-contained page with tables, curves, and a picture of every test case."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from pipeline.evaluation import report_parts as parts
from pipeline.evaluation.case_view import CaseView, view_case
from pipeline.evaluation.colours import ON_BLACK, REFERENCE, colours_of
from pipeline.evaluation.comparison import build_comparison
from pipeline.evaluation.contrast import contrast_table
from pipeline.evaluation.figures.shown_cases import typical_case
from pipeline.evaluation.pages import embedded, rendered
from pipeline.evaluation.pictures import case_picture, curves_picture
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.score_pictures import agreement_picture, group_picture
from pipeline.networks.history import training_histories, validation_losses
from pipeline.settings import Dataset
from pipeline.storage.files import read_json, write
from pipeline.storage.layout import STAGES, Layout, stage_version
from pipeline.storage.roles import labelled_test_cases

VERSION = 6
log = logging.getLogger(__name__)
Scores = Mapping[str, pd.DataFrame]


def report(layout: Layout, dataset: Dataset, seed: int) -> None:
    """Write `report.html`, and beside it `example.png`, the picture of a typical case.

    Raises:
        PipelineError: the results of an earlier stage are missing or damaged.
    """
    cases, split = read_json(layout.cases), read_json(layout.split)
    experiments, subsets = list(dataset.experiments), dataset.shared_subsets
    evaluation = dataset.evaluation
    scores = {name: read_scores(layout, name, subsets) for name in experiments}
    asked = (evaluation, seed, subsets)
    summaries = {name: read_summary(layout, name, *asked) for name in experiments}
    # pictures show a repeat, and what they are called has to fit them
    first = {name: read_scores(layout, name, subsets, repeat=1) for name in experiments}
    pictures, example = _pictures(layout, dataset, split["unlabelled"], first)
    write(layout.report.with_name("example.png"), example)
    histories, untrained = training_histories(layout, dataset)
    colours = colours_of(experiments, ON_BLACK)
    content = {
        "title": layout.dataset,
        "experiments": experiments,
        "comparison": build_comparison(layout, experiments, subsets, evaluation, seed),
        **_score_parts(scores, summaries, calcium=evaluation.metrics == "calcium"),
        "residual_note": parts.residual_note(dataset),
        "contrast": contrast_table(layout, dataset),
        "key": [("reference", REFERENCE), *colours.items()],
        "pictures": pictures,
        "data_summary": parts.data_summary(dataset, cases),
        "unlabelled": len(split["unlabelled"]),
        "split": parts.split_table(split, cases["cases"]),
        "groups": parts.group_table(split, cases["cases"]),
        "set_aside": [(name, "; ".join(why)) for name, why in cases["set_aside"].items()],
        "notes": parts.note_rows(cases["cases"]),
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
    log.info("report: %s, %d pictures, %.1f MB", layout.report, len(pictures), size_mb)


def _score_parts(scores: Scores, summaries: Mapping[str, Any], *, calcium: bool) -> dict[str, Any]:
    """Tables and figures of the patients' scores, by their name in the template."""
    cohorts = parts.cohort_table(summaries)
    return {
        "scored": len(next(iter(scores.values()))),
        "repeats": parts.repeat_table(summaries),
        "sizes": parts.size_table(summaries),
        "sizes_picture": embedded(group_picture(parts.dice_by_size(scores))),
        "cohorts": cohorts,
        "cohorts_picture": embedded(group_picture(parts.dice_by_cohort(scores))) if cohorts else "",
        "agatston": parts.agatston_table(scores) if calcium else None,
        "agreement": embedded(agreement_picture(scores)) if calcium else "",
    }


def _pictures(
    layout: Layout, dataset: Dataset, unlabelled: Sequence[str], scores: Scores
) -> tuple[list[dict[str, str]], bytes]:
    """Every test case's picture and caption, and the typical case's once more by itself."""
    typical, example, pictures = typical_case(scores), b"", []
    subsets = dataset.shared_subsets
    # every subset's networks predict the unlabelled cases; one picture is enough
    others = [(subsets[0], case) for case in unlabelled]
    for subset, case in [*labelled_test_cases(layout, subsets), *others]:
        view = view_case(layout, dataset, case, subset)
        png = case_picture(view)
        if case == typical:
            example = png
        pictures.append({"case": case, "caption": _caption(view, scores), "png": embedded(png)})
    return pictures, example


def _caption(view: CaseView, scores: Scores) -> str:
    place = f"slice {view.z + 1} of {view.slices}"
    if view.reference is None:
        return f"{place} · no reference"
    dice = [f"{name} {rows['dice'].loc[view.case]:.3f}" for name, rows in scores.items()]
    voxels = int(next(iter(scores.values()))["reference_voxels"].loc[view.case])
    return f"{place} · {voxels:,} lesion voxels · Dice of the whole volume: {', '.join(dice)}"
