"""Stage `evaluate`: scores each patient's mask file, which is what a user gets (design 7)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import dask

from pipeline.errors import PipelineError
from pipeline.evaluation.patient_scores import SET, Row, calcium_row, voxel_row
from pipeline.evaluation.score_files import scored_in_batches, write_rows
from pipeline.evaluation.summary import summarise, summarise_external
from pipeline.evaluation.tables import write_csv
from pipeline.settings import Evaluation, Postprocess, repeat_name
from pipeline.storage.batches import ALL, batch_part, batches_in, in_batch, read_parts
from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.storage.masks import read_hu, read_mask, thresholded_mask
from pipeline.storage.roles import (
    external_cases,
    external_test_cases,
    has_folds,
    labelled_test_cases,
)
from pipeline.storage.zarr_store import open_store, read_array

VERSION = 2
log = logging.getLogger(__name__)


class Scored(NamedTuple):
    """A mask that is scored."""

    repeat: int | None  # None of an experiment that has one
    subset: int
    case: str


def evaluate(
    layout: Layout,
    experiment: str,
    subsets: Sequence[int],
    evaluation: Evaluation,
    postprocess: Postprocess,
    seed: int,  # of the bootstrap
    threads: int,  # patients that are scored at a time
    repeats: int = 1,
    batch: str = ALL,
) -> None:
    """Write a row for each labelled test case of the subsets, and the summary over them.

    With several repeats, each has its rows. Cases of external data sets have a row of each subset,
    whose networks all test them, and a summary of each set. A `batch` of cases has its rows alone:
    the job of all cases takes over those that batches have scored.

    Raises:
        PipelineError: there is no labelled test case, or a mask is missing or on another grid.
    """
    tested = labelled_test_cases(layout, subsets)
    if not tested:
        fault = f"{layout.split} holds no labelled test case, expected at least one to score"
        remedy = "raise split.test or give labelled cases the role test"
        raise PipelineError(f"{layout.dataset}: {fault}; {remedy}")
    external = external_cases(layout)
    numbers = range(1, repeats + 1) if repeats > 1 else (None,)
    wanted = [
        Scored(repeat, *test)
        for repeat in numbers
        for test in [*tested, *external_test_cases(layout, subsets)]
        if in_batch(test[1], batch)
    ]
    rows = _score(layout, experiment, wanted, evaluation, postprocess, threads, batch)
    if batch:
        return
    if external:
        set_of = {case: name for name, cases in external.items() for case in cases}
        rows = [{**row, SET: set_of.get(row["case"], "")} for row in rows]
    write_csv(layout.scores(experiment), rows)
    above, folds = postprocess.threshold_hu, has_folds(layout)
    own = [row for row in rows if not row.get(SET)]
    summary = summarise(own, evaluation, seed, threshold_hu=above, folds=folds)
    dice = summary["scores"]["dice"]["mean"]  # None if no patient has a score
    mean = "undefined" if dice is None else f"{dice:.3f}"
    of = f" of {repeats} repeats" if repeats > 1 else ""
    log.info("%s: %d patients, Dice %s%s", experiment, len(tested), mean, of)
    sections = {"evaluation": evaluation, "postprocess": postprocess}
    settings = {name: section.model_dump(mode="json") for name, section in sections.items()}
    others = {
        name: summarise_external(
            [row for row in rows if row[SET] == name], subsets, evaluation, seed, threshold_hu=above
        )
        for name in external
    }
    content: dict[str, Any] = {"experiment": experiment, **summary}
    content |= {"external": others} if others else {}
    content |= {"settings": settings, "outputs": []}
    write_json(layout.summary(experiment), content)


def _score(
    layout: Layout,
    experiment: str,
    wanted: Sequence[Scored],
    evaluation: Evaluation,
    postprocess: Postprocess,
    threads: int,
    batch: str,
) -> list[Row]:
    """The rows of cases in their order; those of a batch are written, for the job of all cases."""
    divided = batch or batches_in(layout.summary(experiment).with_suffix(""))
    keys = _row_keys(layout, experiment, wanted, evaluation, postprocess) if divided else {}
    scored = {} if batch else scored_in_batches(layout, experiment)
    score = dask.delayed(score_case)
    jobs = {
        test: score(layout, experiment, *test[1:], evaluation, postprocess, test.repeat)
        for test in wanted
        if keys.get(test) not in scored
    }
    computed = dask.compute(*jobs.values(), scheduler="threads", num_workers=threads)
    made = dict(zip(jobs, computed, strict=True))
    rows = [made[test] if test in made else scored[keys[test]] for test in wanted]
    if batch:
        log.info("%s, batch %s: %d rows", experiment, batch, len(rows))
        write_rows(layout, batch_part(experiment, batch), [keys[test] for test in wanted], rows)
    return rows


def _row_keys(
    layout: Layout,
    experiment: str,
    wanted: Sequence[Scored],
    evaluation: Evaluation,
    postprocess: Postprocess,
) -> dict[Scored, str]:
    """What each row depends on: mask, reference and settings, as a fingerprint."""
    cases = read_json(layout.cases)["cases"]
    trainings = {(repeat_name(experiment, test.repeat or 1), test.subset) for test in wanted}
    masks = {training: read_parts(layout.masks(*training)) for training in trainings}
    sections = {"evaluation": evaluation, "postprocess": postprocess}
    settings = {name: section.model_dump(mode="json") for name, section in sections.items()}

    def key(test: Scored) -> str:
        made = masks[repeat_name(experiment, test.repeat or 1), test.subset].get(test.case, {})
        entry = {part: cases[test.case][part] for part in ("sha256_image", "sha256_label", "group")}
        content = {"mask": made.get("fingerprint"), **entry, **test._asdict(), "version": VERSION}
        return fingerprint({**content, "settings": settings})

    return {test: key(test) for test in wanted}


def score_case(
    layout: Layout,
    experiment: str,
    subset: int,
    case: str,
    evaluation: Evaluation,
    postprocess: Postprocess,
    repeat: int | None = None,  # None of an experiment that has one
) -> Row:
    """One patient's row, of one repeat.

    Raises:
        PipelineError: a store or the mask is missing, damaged or on another grid.
    """
    name = repeat_name(experiment, repeat or 1)
    try:
        store = open_store(layout.case_store(case))
        final = read_mask(layout, name, subset, case, store)
        raw = thresholded_mask(layout, name, subset, case, postprocess.probability)
        label = read_array(store, "label")
        spacing_mm = [float(side) for side in store.attrs["spacing"]]  # type: ignore[union-attr,arg-type]
        row = {"case": case, "group": store.attrs["group"], "subset": subset}
        row |= {} if repeat is None else {"repeat": repeat}
        row |= voxel_row(label, final, raw, spacing_mm)
        if evaluation.metrics == "calcium":
            hu, threshold_hu = read_hu(store), postprocess.threshold_hu
            row |= calcium_row(label, final, hu, spacing_mm, evaluation, threshold_hu)
    except Exception as error:
        error.add_note(f"while scoring case {case} of {name}, subset {subset}")
        raise
    return row
