"""Which residual maps the jobs of a plan still read, where maps are given back once they do not.

A stage that only looks at results which stay as they are reads no maps. So a job that makes maps
asks here which of its cases a training or a prediction would have to compute with, by the very
fingerprints that these compare, and makes no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.networks.weights import finished_record, weights_digest
from pipeline.orchestration.given_back import plan_note
from pipeline.orchestration.job_files import figure_residuals, models_behind, pretrained_weights
from pipeline.predict import made_by, network_key, predicted_cases
from pipeline.settings import Dataset, Settings, repeat_seed, residual_count
from pipeline.settings.instances import instances_of, subsets_that_predict_unlabelled
from pipeline.storage.files import file_digest, fingerprint, read_json, remembered
from pipeline.storage.layout import Layout, work_name
from pipeline.storage.zarr_store import is_current, open_store
from pipeline.train_segmentation import training_cases, training_key, training_record

KeyOf = Callable[[str], str]  # case → the fingerprint that its maps have, or would have


def maps_read(
    layout: Layout, settings: Settings, residuals: str, cases: Sequence[str], key_of: KeyOf
) -> set[str]:
    """Those of `cases` whose maps a due training, prediction or figure has to read.

    Without the note of a plan, all works count as due.

    Raises:
        PipelineError: a result of an earlier stage is missing or damaged.
    """
    note = remembered(plan_note(layout))
    works = None if note is None else set(map(str, note.get("works", ())))

    def due(stage: str, *names: object) -> bool:
        work = work_name(stage, *names)
        # a work of a batch has its name behind
        return works is None or any(f"{one} ".startswith(f"{work} ") for one in works)

    chosen, read = settings.datasets[layout.dataset], set[str]()
    if works is not None and any(
        residuals in figure_residuals(chosen, one.removeprefix("draw "))
        for one in works
        if one.startswith("draw ")
    ):
        return set(cases)  # which of them it shows, scores decide that are yet to come
    for name, subset in _networks(chosen):
        used = instances_of(chosen, name, subset)
        if used.residuals != residuals:
            continue
        # what made the maps is there by now, and another MAE perhaps not yet
        behind = models_behind(layout, chosen, residuals)
        later = used.mae and layout.mae(used.mae) not in behind and due("train_mae", used.mae)
        if due("train_segmentation", name, subset) or due("predict", name, subset):
            asked = (layout, settings, name, subset, set(cases) - read, key_of)
            read |= _read_by(*asked, encoder_due=bool(later))
    return read


def _networks(chosen: Dataset) -> list[tuple[str, int]]:
    """Every network that is trained here, or that a bundle brings, and its subset."""
    if chosen.bundle:
        return list(chosen.bundle.members)
    return [
        (name, subset)
        for experiment in chosen.networks
        for subset in chosen.subsets_of(experiment)
        for name in chosen.trainings_of(experiment)
    ]


def _read_by(
    layout: Layout,
    settings: Settings,
    name: str,
    subset: int,
    cases: set[str],
    key_of: KeyOf,
    *,
    encoder_due: bool,
) -> set[str]:
    """The cases that one training, or its predictions, have to read."""
    chosen = settings.datasets[layout.dataset]
    unlabelled = subset in subsets_that_predict_unlabelled(chosen)
    tested, further = predicted_cases(layout, subset, unlabelled=unlabelled)
    predicted = cases & {*tested, *further}
    # the weights that its encoder starts from may be others by then
    given = (layout, settings, name, subset, key_of)
    weights = None if encoder_due else _finished_weights(*given)
    if weights is None:
        experiment = chosen.trained(name, "which reads maps")
        roles = training_cases(layout, name, subset, experiment, settings.seed)
        return predicted | (cases & {*roles["train"], *roles["validation"]})

    def is_predicted(case: str) -> bool:
        store = open_store(layout.case_store(case))
        key = made_by(network_key(store, weights, chosen.slices, key_of(case)), store)
        return is_current(layout.prediction_store(name, subset, case), fingerprint(key))

    return {case for case in predicted if not is_predicted(case)}


def _finished_weights(
    layout: Layout,
    settings: Settings,
    name: str,
    subset: int,
    key_of: KeyOf,
) -> str | None:
    """SHA-256 of the weights of a training that has nothing to do; None where it has."""
    chosen, seed = settings.datasets[layout.dataset], settings.seed
    if chosen.bundle:
        return weights_digest(layout.model(name, subset))
    experiment = chosen.trained(name, "which reads maps")
    roles = training_cases(layout, name, subset, experiment, seed)
    count = residual_count(chosen, name)
    record = training_record(experiment, count, chosen.slices, repeat_seed(seed, name), roles)
    used = instances_of(chosen, name, subset)
    start = list(map(file_digest, pretrained_weights(chosen, name)))
    cases = read_json(layout.cases)["cases"]
    key = training_key(layout, used, chosen.slices, cases, roles, record, start, key_of)
    content = finished_record(layout.model(name, subset), key)
    return None if content is None else str(content["weights_sha256"])
