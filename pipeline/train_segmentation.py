"""Stage `train_segmentation`: a network learns lesions from slices and MRM (section 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

from pipeline.errors import PipelineError
from pipeline.networks.build import build_network, load_mae_encoder
from pipeline.networks.resume import is_first_process, load_best, take_back
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.networks.trainer import fit, per_process, seed_generators
from pipeline.networks.weights import finished, keep_model, weights_digest
from pipeline.settings import Experiment, Mae, Resources, Slices
from pipeline.storage.files import fingerprint, read_json
from pipeline.storage.intensity import shown_from
from pipeline.storage.layout import Layout, folder_of
from pipeline.storage.residual_store import residual_fingerprint
from pipeline.storage.slices import SliceDataset, SliceSampler, slice_loader

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
) -> None:
    """Train one experiment on one subset; keep the best epoch by validation loss.

    `mae` is the MAE that `settings.mae_encoder` names: its encoder is what training starts from.
    """
    cases = read_json(layout.cases)["cases"]
    roles = read_json(layout.split)["subsets"][str(subset)]
    manifest = layout.model(name, subset)
    record = {
        "experiment": settings.model_dump(mode="json"),
        "residual_maps": residual_count,
        "slices": slices.model_dump(mode="json"),
        "seed": seed,
    }
    seen = {
        role: {case: _seen(layout, settings, slices, cases[case], case) for case in roles[role]}
        for role in ("train", "validation")
    }
    encoder = settings.mae_encoder
    start = weights_digest(layout.mae(encoder.mae)) if encoder else None
    key = fingerprint({**record, "version": VERSION, "cases": seen, "mae_weights": start})
    if resources.nodes == 1:  # of several, each would try it
        take_back(folder_of(manifest), key)
    if finished(manifest, key):
        return
    seed_generators(seed)
    network = build_network(settings, residual_count, slices, mae)
    if encoder and mae:
        # a training that goes on takes its checkpoint's weights afterwards
        load_mae_encoder(network, layout, encoder.mae, mae)
    module = SegmentationTraining(network, settings.training)
    loaders = tuple(
        _loader(layout, roles[role], cases, settings, slices, seed, resources, role == "train")
        for role in ("train", "validation")
    )
    log.info(
        "%s, subset %d: %d training, %d validation cases",
        name,
        subset,
        len(roles["train"]),
        len(roles["validation"]),
    )
    best = fit(
        module,
        (loaders[0], loaders[1]),
        manifest,
        key,
        title=f"{name}, subset {subset}",
        epochs=settings.training.epochs,
        precision=settings.training.precision,
        resources=resources,
        patience=settings.training.patience,
    )
    if not is_first_process():
        return
    load_best(module, best)
    keep_model(network, manifest, key, record)


def _seen(
    layout: Layout, settings: Experiment, slices: Slices, entry: Mapping[str, Any], case: str
) -> dict[str, Any]:
    """What training sees of a case is made from, for the fingerprint; `entry` is ingest's."""
    seen = {**shown_from(entry, slices), "label": entry["sha256_label"]}
    if settings.residuals is not None:
        seen["residuals"] = residual_fingerprint(layout, settings.residuals, case)
    return seen


def _loader(
    layout: Layout,
    names: Sequence[str],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Experiment,
    slices: Slices,
    seed: int,
    resources: Resources,
    training: bool,
) -> DataLoader[Any]:
    every = [(case, z) for case in names for z in range(cases[case]["slices"])]
    lesion = [i for i, (case, z) in enumerate(every) if z in cases[case]["slices_with_lesion"]]
    lesion_free = sorted(set(range(len(every))) - set(lesion))
    residual_stores = None
    if settings.residuals is not None:
        residual_stores = {case: layout.residual_store(settings.residuals, case) for case in names}
    order = SliceSampler(lesion, lesion_free, settings.training.lesion_free_fraction, seed)
    if len(order) == 0:
        role = "training" if training else "validation"
        raise PipelineError(
            f"{layout.dataset}: the {len(names)} {role} cases show no slice: none holds a lesion, "
            "and lesion_free_fraction leaves no other; raise it or split differently"
        )
    if not training:
        # one fixed mix of slices, as a training batch has it: the Dice loss of a batch without any
        # lesion says nothing
        every = [every[index] for index in order]
    data = SliceDataset(
        every,
        {case: layout.case_store(case) for case in names},
        slices,
        residual_stores,
    )
    whole = settings.training.batch_size
    if not training:
        # every process validates on all slices, in the batches that one alone would see
        return slice_loader(data, whole, None, resources.workers)
    return slice_loader(data, per_process(whole, resources), order, resources.workers)
