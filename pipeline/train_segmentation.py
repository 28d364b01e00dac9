"""Stage `train_segmentation`: trains a network on slices and residual maps (section 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.data import DataLoader

from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peer_sizes import PEERS
from pipeline.datasets.subsets import labelled_part
from pipeline.errors import PipelineError
from pipeline.networks.build import beyond_of, build_network, load_mae_encoder
from pipeline.networks.history import idle_units, read_history
from pipeline.networks.nodes import per_process
from pipeline.networks.public_checkpoints import load_public_weights
from pipeline.networks.resume import is_first_process, load_best
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.networks.trainer import fit, seed_generators, training_logger
from pipeline.networks.weights import keep_model, reuse_finished, weights_digest
from pipeline.settings import (
    Experiment,
    Mae,
    Resources,
    Slices,
    Training,
    configured,
    repeat_seed,
)
from pipeline.settings.instances import Instances
from pipeline.settings.paths import pretrained_files
from pipeline.storage.files import file_digest, fingerprint, read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.intensity import image_key
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import residual_fingerprint
from pipeline.storage.slices import (
    CaseSampler,
    SliceDataset,
    SliceSampler,
    mean_and_deviation,
    slice_loader,
)
from pipeline.storage.source_notes import file_stats, write_source_note

VERSION = 1
log = logging.getLogger(__name__)


def train_segmentation(
    layout: Layout,
    name: str,
    subset: int,
    settings: Experiment,
    residual_count: int,
    slices: Slices,
    seed: int,
    resources: Resources,
    mae: Mae | None = None,
    instances: Instances | None = None,  # where the subset has its own
) -> None:
    """Train one experiment on one subset, from the encoder of `mae`; keep the best epoch by loss.

    `name` is the experiment's, or that of a repeat, which draws from a seed of its own.

    Raises:
        PipelineError: there is no slice to learn from, or the training cannot run or diverges.
    """
    cases = read_json(layout.cases)["cases"]
    roles = training_cases(layout, name, subset, settings, seed)
    seed, manifest = repeat_seed(seed, name), layout.model(name, subset)
    record = training_record(settings, residual_count, slices, seed, roles)
    used = instances or _configured_instances(settings)
    start = _pretrained(layout, name, subset, settings)
    maps_of = partial(residual_fingerprint, layout, str(used.residuals))
    key = training_key(layout, used, slices, cases, roles, record, list(start.values()), maps_of)
    if reuse_finished(manifest, key):
        return
    seed_generators(seed)
    network = build_network(settings, residual_count, slices, mae)
    if used.mae and mae:  # a resumed training replaces these, and public ones, by its checkpoint's
        load_mae_encoder(network, layout, used.mae, mae)
    load_public_weights(network, settings.model, list(start), _pretrained_key(name))
    if settings.training.normalise == "dataset":
        record["normalisation"] = _normalise(network, layout, roles["train"], cases, slices)
    module = SegmentationTraining(network, settings.training, seed, compiling=resources.compile)
    beyond = beyond_of(network)
    train, validation = (
        _loader(layout, roles[role], cases, settings, used, slices, seed, resources, role, beyond)
        for role in ("train", "validation")
    )
    title, counts = f"{name}, subset {subset}", (len(roles["train"]), len(roles["validation"]))
    log.info("%s: %d training, %d validation cases", title, *counts)
    best = fit(
        module,
        (train, validation),
        manifest,
        key,
        title=title,
        epochs=settings.training.epochs,
        precision=settings.training.precision,
        resources=resources,
        patience=settings.training.patience,
        further=module.unit_columns,
        logger=training_logger(settings.training.logger, layout, manifest, title),
    )
    if is_first_process():
        load_best(module, best)
        _keep(network, manifest, key, record, title)


def training_cases(
    layout: Layout, name: str, subset: int, settings: Experiment, seed: int
) -> dict[str, list[str]]:
    """The cases that a training uses, by role."""
    whole = read_json(layout.split)["subsets"][str(subset)]
    return labelled_part(whole, configured(name), settings, seed)


def _configured_instances(settings: Experiment) -> Instances:
    encoder = settings.mae_encoder
    return Instances(settings.residuals, encoder.mae if encoder else None)


def _keep(network: nn.Module, manifest: Path, key: str, record: dict[str, Any], title: str) -> None:
    """Write the trained network, and tell which of its units have learnt nothing."""
    for line in idle_units(read_history(folder_of(manifest) / "history.csv")):
        log.warning("%s: %s", title, line)
    keep_model(network, manifest, key, record)


def _pretrained_key(name: str) -> str:
    return f"experiments.{configured(name)}.pretrained"


def _pretrained(layout: Layout, name: str, subset: int, settings: Experiment) -> dict[Path, str]:
    """The files of weights that a training starts from, and their SHA-256.

    They are noted, so that a plan notices when one is replaced.
    """
    if not settings.pretrained:
        return {}
    files = pretrained_files(settings.model, settings.pretrained, _pretrained_key(name))
    stats = file_stats(files)
    digests = {path: file_digest(path) for path in files}
    if is_first_process():
        work = layout.work_of(layout.model(name, subset))
        write_source_note(layout.sources(work), stats, digests)
    return digests


def _normalise(
    network: nn.Module,
    layout: Layout,
    names: Sequence[str],
    cases: Mapping[str, Mapping[str, Any]],
    slices: Slices,
) -> dict[str, float]:
    """Have a network normalise by the mean and deviation of its training cases; these two.

    Raises:
        PipelineError: all of them have one intensity.
    """
    planes = [(case, z) for case in names for z in range(cases[case]["slices"])]
    stores = {case: layout.case_store(case) for case in names}
    mean, deviation = mean_and_deviation(SliceDataset(planes, stores, slices, labels=False))
    if not deviation > 0:
        found = f"found the intensity {mean:g} in all slices of {len(names)} training cases"
        fault = f"{found}, expected several to normalise by; see slices.window or percentiles"
        raise PipelineError(f"{layout.dataset}: training.normalise: {fault}")
    normalisation = cast(SegmentationNetwork, network).normalisation
    assert normalisation is not None
    normalisation.fill(mean, deviation)
    return {"mean": mean, "deviation": deviation}


def training_record(
    settings: Experiment,
    residual_count: int,
    slices: Slices,
    seed: int,
    roles: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What the manifest says of a training, with its cases where it uses fewer labelled ones."""
    record: dict[str, Any] = {
        "experiment": settings.model_dump(mode="json", exclude={"repeats"}),
        "residual_maps": residual_count,
        "slices": slices.of_networks(),
        "seed": seed,
    }
    if settings.labelled_cases is not None:
        record["labelled"] = {role: list(roles[role]) for role in ("train", "validation")}
    return record


def training_key(
    layout: Layout,
    used: Instances,
    slices: Slices,
    cases: Mapping[str, Mapping[str, Any]],
    roles: Mapping[str, Sequence[str]],
    record: Mapping[str, Any],
    pretrained: Sequence[str],
    maps_of: Callable[[str], str],
) -> str:
    """The fingerprint of everything that the trained weights depend on.

    `pretrained`: SHA-256 of the files that they start from; `maps_of` gives the fingerprint of a
    case's residual maps.
    """
    seen: dict[str, dict[str, Any]] = {"train": {}, "validation": {}}
    for role, keys in seen.items():
        for case in roles[role]:
            keys[case] = {**image_key(cases[case], slices), "label": cases[case]["sha256_label"]}
            if used.residuals is not None:
                keys[case]["residuals"] = maps_of(case)
    start = weights_digest(layout.mae(used.mae)) if used.mae else None
    if pretrained:
        # the content of the files counts, not their paths
        record = {**record, "experiment": {**record["experiment"], "pretrained": list(pretrained)}}
    return fingerprint({**record, "version": VERSION, "cases": seen, "mae_weights": start})


def _loader(
    layout: Layout,
    names: Sequence[str],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Experiment,
    used: Instances,
    slices: Slices,
    seed: int,
    resources: Resources,
    role: str,
    beyond: float,
) -> DataLoader[Any]:
    planes = [(case, z) for case in names for z in range(cases[case]["slices"])]
    order = _order(planes, names, cases, settings.training, seed, role)
    if len(order) == 0:
        kind = "training" if role == "train" else role
        fault = f"the {len(names)} {kind} cases show no slice: none holds a lesion"
        remedy = "and lesion_free_fraction leaves no other; raise it or split differently"
        raise PipelineError(f"{layout.dataset}: {fault}, {remedy}")
    residual_stores = None
    if used.residuals is not None:
        residual_stores = {case: layout.residual_store(used.residuals, case) for case in names}
    size, stores = settings.training.batch_size, {case: layout.case_store(case) for case in names}
    least = PEERS[settings.model].least_batch if settings.model in PEERS else 1
    shown: Any = {"context": settings.neighbours, "beyond": beyond}
    if role != "train":
        # a fixed mix of slices, because the Dice loss of a batch without any lesion means nothing;
        # every process validates on all of them, in the batches of a single process
        chosen = [planes[index] for index in order]
        data = SliceDataset(chosen, stores, slices, residual_stores, **shown)
        return slice_loader(data, size, None, resources.workers)
    if len(order) < least:
        fault = f"the {len(names)} training cases show {len(order)} slice, which {settings.model}"
        raise PipelineError(f"{layout.dataset}: {fault} cannot learn from alone; add cases")
    data = SliceDataset(planes, stores, slices, residual_stores, **shown)
    return slice_loader(data, per_process(size, resources), order, resources.workers, least)


def _order(
    planes: Sequence[tuple[str, int]],
    names: Sequence[str],
    cases: Mapping[str, Mapping[str, Any]],
    training: Training,
    seed: int,
    role: str,
) -> SliceSampler:
    """Which of the slices are shown, and when: as many as chosen, or one of every training case."""
    lesion = [i for i, (case, z) in enumerate(planes) if z in cases[case]["slices_with_lesion"]]
    lesion_free = sorted(set(range(len(planes))) - set(lesion))
    if role != "train" or training.slice_per_case is None:
        return SliceSampler(lesion, lesion_free, training.lesion_free_fraction, seed)
    parts: dict[str, tuple[list[int], list[int]]] = {case: ([], []) for case in names}
    for without, numbers in enumerate((lesion, lesion_free)):
        for number in numbers:
            parts[planes[number][0]][without].append(number)
    return CaseSampler(list(parts.values()), training.slice_per_case, seed)
