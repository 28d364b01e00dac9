"""Faults that are known before the first job: each is one line, and nothing is computed.

The workflow asks once, in its main process. Faults of the images are for ingest to find.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.datasets import CaseFiles
from pipeline.datasets.subsets import healthy_roles, labelled_part, split_cases
from pipeline.errors import PipelineError
from pipeline.evaluation.figures.contents import figures_of
from pipeline.orchestration.job_files import pretrained_weights
from pipeline.planning.sizes import (
    case_sizes,
    mapped_share,
    predictable,
    size_text,
    stores_needed,
)
from pipeline.prediction.inputs import prediction_inputs
from pipeline.settings import HEALTHY, Dataset, Settings, configured, external_set, store_root
from pipeline.settings.instances import all_maes, all_residuals, residual_instances, used_maes
from pipeline.settings.paths import checkpoint_files
from pipeline.storage.batches import parts_of
from pipeline.storage.files import READ_ONLY, nearest_there
from pipeline.storage.folders import BY_DIGEST
from pipeline.storage.layout import Layout

PROBE_BYTES = 1 << 16  # a full disk still takes a file's name
LEAST_FREE = 100 * 10**6  # both stores of one case take up to 72 MB (docs/reference/stores.md)
HEADERS = 12  # read for an estimate; on a cluster's disk each may take milliseconds
KINDS = {
    "mae": "mae",
    "residuals": "residuals",
    "experiment": "experiments",
    "table": "tables",
    "figure": "figures",
}


def results_fault(results: Path) -> str | None:
    """Why no file can be written to a results folder, or None: not permitted, read-only, or full.

    Raises:
        PipelineError: a file, or a link to nothing, is in its place or that of a folder above.
    """
    return _fault("results", results, _refusal("results", results))


def store_fault(settings: Settings) -> str | None:
    """Why no residual stores can be written to the shared folder; it may be read-only.

    Raises:
        PipelineError: see `results_fault`; or it names an environment variable that is not set.
    """
    root = store_root(settings)
    if root is None:
        return None
    refusal = _refusal("store.root", root)
    if refusal and refusal.errno in READ_ONLY and os.access(root, os.R_OK | os.X_OK):
        return None
    return _fault("store.root", root, refusal)


def _refusal(key: str, folder: Path) -> OSError | None:
    """The machine's error on a file in a folder, or in its nearest existing parent."""
    nearest = nearest_there(folder)
    if not os.access(nearest, os.F_OK):
        raise PipelineError(
            f"{key} {folder}: found a link at {nearest} to what is not there or cannot be seen, "
            f"expected a folder; mount its disk, correct the link, or choose another `{key}`"
        )
    if not nearest.is_dir():
        raise PipelineError(
            f"{key} {folder}: found a file at {nearest}, expected a folder; choose another `{key}`"
        )
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error
    return None


def _fault(key: str, folder: Path, refusal: OSError | None) -> str | None:
    if refusal is None:
        return None
    return (
        f"{key} {folder}: nothing can be written to {nearest_there(folder)} ({refusal.strerror}); "
        f"free some space, make it writable, or choose another `{key}`"
    )


def check_split(dataset: Dataset, files: Sequence[CaseFiles], seed: int) -> None:
    """Refuse a split that the listed cases do not allow, by the rules of stage `split`.

    Raises:
        PipelineError: too few cases or groups, roles that do not fit, a subset with fewer cases
            than an experiment's `labelled_cases`, a tested group that healthy scans are of, or an
            external data set without any reference.
    """
    if dataset.bundle:  # nobody trains or tests
        return
    _check_external(dataset, files)
    given = [case for case in files if case.label is not None and not external_set(case.role)]
    labelled = {case.case: {"group": case.group, "role": case.role} for case in given}
    if not labelled:
        raise PipelineError(
            f"split: found no reference among {len(files)} cases, expected some to train on; add "
            "their labels, or use grcsf predict with a trained run"
        )
    subsets = split_cases(labelled, dataset.split, seed)
    for name, experiment in dataset.networks.items():
        for number in dataset.subsets_of(name):
            labelled_part(subsets[number - 1], name, experiment, seed)
    if dataset.split.by == "group":
        tested = {labelled[case]["group"] for roles in subsets for case in roles["test"]}
        _check_healthy_groups(files, tested)


def _check_external(dataset: Dataset, files: Sequence[CaseFiles]) -> None:
    """Refuse an external data set of which nothing can be scored."""
    for name in dataset.external:
        own = [case for case in files if external_set(case.role) == name]
        if not any(case.label is not None for case in own):
            raise PipelineError(
                f"external.{name}: found no reference among {len(own)} cases, expected some to "
                "score; add their labels, or give the images as source.also_predict"
            )


def _check_healthy_groups(files: Sequence[CaseFiles], tested: set[str]) -> None:
    """Refuse healthy scans of a tested group: every MAE learns from them."""
    scans = [case for case in files if case.role == HEALTHY and case.group]
    if cut := [case for case in scans if case.group in tested]:
        raise PipelineError(
            f"split.by: group, but healthy scan {cut[0].case} is of group {cut[0].group}, which is "
            "tested, so an MAE would learn from it; expected healthy scans of other groups: remove "
            "it, leave its group empty if it may be learnt from, or set split.by: case"
        )


def check_units(dataset: Dataset, files: Sequence[CaseFiles]) -> None:
    """Refuse to look for calcium in images that are no CT: calcium is defined in HU."""
    method, metrics = dataset.postprocess.method, dataset.evaluation.metrics
    asking = {"postprocess.method": method, "evaluation.metrics": metrics}
    keys = [key for key, value in asking.items() if value == "calcium"]
    modalities = [dataset.source_of(case.role).modality or case.modality for case in files]
    pairs = zip(files, modalities, strict=True)
    others = [(case, modality) for case, modality in pairs if modality != "CT"]
    if keys and others:
        (first, modality), *_ = others
        modality = modality or "an unknown modality"
        raise PipelineError(
            f"{keys[0]}: found calcium, and {modality} for case {first.case}, expected CT, as "
            "calcium is told by its HU; use postprocess.method none or components and "
            "evaluation.metrics voxel, or set source.modality to CT where the images are in HU"
        )


def check_healthy(dataset: Dataset, files: Sequence[CaseFiles]) -> None:
    """Refuse an MAE of healthy scans alone where there are too few of them.

    Raises:
        PipelineError: there are fewer than two.
    """
    if dataset.bundle:  # which brings all weights
        return
    scans = [case.case for case in files if case.role == HEALTHY]
    for name in used_maes(dataset, list(dataset.experiments)):
        if dataset.mae[name].slices_of == "healthy":
            try:
                healthy_roles(scans, 0)
            except PipelineError as error:
                raise PipelineError(f"mae.{name}.slices_of: healthy: {error}") from None


def check_given(layout: Layout, dataset: Dataset) -> None:
    """Refuse weights and predictions that jobs would read and that are not there.

    Raises:
        PipelineError: of the first of them, as its job would say.
    """
    if dataset.bundle:  # which brings all weights
        return
    for name in used_maes(dataset, list(dataset.experiments)):
        if checkpoint := dataset.mae[name].checkpoint:
            checkpoint_files(Path(checkpoint))
    for name in dataset.networks:
        pretrained_weights(dataset, name)
    for name in dataset.experiments:
        # of any subset: the folder is the same
        prediction_inputs(layout, dataset, name, 1, parts_of)


def check_names(settings: Settings, asked: Mapping[str, str | int]) -> None:
    """Refuse names that the configuration does not have; the error lists the known ones.

    `asked` has `dataset`, and any of `mae`, `residuals`, `experiment`, `table`, `figure`, `subset`.
    What has subsets has repeats, too, whose names are known.
    """
    chosen = settings.datasets[str(asked["dataset"])]
    instances = {"mae": all_maes, "residuals": all_residuals, "figure": figures_of}
    for kind, section in KINDS.items():
        if kind not in asked:
            continue
        known = list(instances[kind](chosen) if kind in instances else getattr(chosen, section))
        if kind == "experiment" and "subset" in asked:
            known = [name for experiment in known for name in chosen.trainings_of(experiment)]
        if asked[kind] not in known:
            raise PipelineError(
                f"data set {asked['dataset']}: {section} has no {asked[kind]!r}; it has: "
                f"{', '.join(known) or 'none'}"
            )
    if "subset" in asked and "experiment" in asked:
        subsets = chosen.subsets_of(configured(str(asked["experiment"])))
        if int(asked["subset"]) not in subsets:
            raise PipelineError(
                f"data set {asked['dataset']}: experiment {asked['experiment']} has no subset "
                f"{asked['subset']}; it has: {', '.join(map(str, subsets))}"
            )


def check_disk(settings: Settings, files: Mapping[str, Sequence[CaseFiles]]) -> list[str]:
    """A warning for each disk that is too small for the stores that are still to be made.

    Networks and checkpoints come on top: `grcsf plan --hours` counts them, which takes seconds.

    Raises:
        PipelineError: stores are to be made, and there is practically no space.
    """
    results, shared = Path(settings.results), store_root(settings)
    missing = {results: 0}
    for name, cases in files.items():
        layout, dataset = Layout(results, name), settings.datasets[name]
        kept = not settings.store.gives_back  # else a batch's maps are soon gone
        of_results, of_shared = _missing_bytes(layout, dataset, cases, maps=kept)
        elsewhere = shared if shared and os.access(nearest_there(shared), os.W_OK) else results
        missing[results] += of_results
        missing[elsewhere] = missing.get(elsewhere, 0) + of_shared
    warnings = []
    for folder, needed in missing.items():
        key = "results" if folder == results else "store.root"
        free = shutil.disk_usage(nearest_there(folder)).free
        if needed <= free:
            continue
        if free < LEAST_FREE:
            raise PipelineError(
                f"{key} {folder}: found {size_text(free)} of free disk, expected about "
                f"{size_text(needed)} for the stores alone; free some, or choose another disk"
            )
        warnings.append(
            f"{key} {folder}: the stores alone will take about {size_text(needed)}, and "
            f"{size_text(free)} are free; see grcsf plan --hours"
        )
    return warnings


def _missing_bytes(
    layout: Layout, dataset: Dataset, files: Sequence[CaseFiles], *, maps: bool
) -> tuple[int, int]:
    """Bytes of case stores and, with `maps`, of residual stores that are still to be made."""
    made = {"case stores": _stores_in(layout.stage("ingest")), "residual stores": 0}
    mapped = predictable(files)
    unlabelled = sum(case.label is None or bool(external_set(case.role)) for case in mapped)
    due = {"case stores": len(files), "residual stores": 0}
    for name in residual_instances(dataset, dataset.experiments) if maps else ():
        made["residual stores"] += _stores_in(layout.stage("residual_maps") / name)
        share = mapped_share(dataset, name)
        due["residual stores"] += round(share * (len(mapped) - unlabelled)) + unlabelled
    if made == due:
        return 0, 0  # a finished run reads no header
    source = dataset.source
    shape = source.phantom.shape if source.phantom else None
    sizes = case_sizes(files, source.adapter, dataset.slices, shape=shape, headers=HEADERS)
    needed = stores_needed(dataset, sizes)
    left = {kind: max(0.0, 1 - made[kind] / count) for kind, count in due.items() if count}
    of_cases = left.get("case stores", 0.0) * needed["case stores"]
    return round(of_cases), round(left.get("residual stores", 0.0) * needed["residual stores"])


def _stores_in(folder: Path) -> int:
    """The stores of a folder, also those in folders by digest."""
    return sum(1 for below in ("*.zarr", f"{BY_DIGEST}/*.zarr") for _ in folder.glob(below))
