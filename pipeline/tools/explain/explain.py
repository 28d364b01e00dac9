"""`grcsf explain`: pictures of the MAE passes and of the network's units, slice by slice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipeline.errors import PipelineError
from pipeline.networks.build import beyond_of, build_network, context_of
from pipeline.networks.reconstruction import models_of_maps
from pipeline.networks.weights import load_weights
from pipeline.settings import Dataset, encoder_mae, residual_count
from pipeline.settings.instances import residual_instance
from pipeline.storage.files import write
from pipeline.storage.layout import Layout
from pipeline.storage.roles import has_folds, ingested_store, subset_that_tests
from pipeline.storage.slices import SliceDataset
from pipeline.storage.zarr_store import Store, read_array
from pipeline.tools.explain.picture import explain_picture
from pipeline.tools.explain.view import Subject, view_slice

log = logging.getLogger(__name__)
TO_LOOK_INTO = "to look into it"


def explain(
    layout: Layout,
    dataset: Dataset,
    experiment: str,
    case: str,
    numbers: Sequence[int],  # of slices, from 1; without any, the slice with most lesion
    subset: int,  # on which the network was trained
    folder: Path,
    seed: int,  # of the masks
) -> list[Path]:
    """Write one picture for each slice, and return the files.

    Raises:
        PipelineError: no such case or slice, or an earlier stage has not been run.
    """
    settings = dataset.trained(experiment, TO_LOOK_INTO)
    store = ingested_store(layout, case)
    slices: Any = store.attrs["slices"]
    for number in numbers:
        if not 1 <= number <= slices:
            fault = f"found {number}, but case {case} has slices 1 to {slices}"
            raise PipelineError(f"--slice: {fault}")
    chosen = [number - 1 for number in numbers] or [_fullest_slice(store)]
    _tell_learnt(layout, case, subset)
    name = settings.residuals
    maps_of = residual_instance(dataset, name, subset) if name else None
    network = _network(layout, dataset, experiment, subset)
    subject = Subject(
        case=case,
        store=store,
        slices=_slices(layout, dataset, maps_of, case, store, network),
        experiment=experiment,
        network=network,
        residuals=dataset.residuals[name] if name else None,
        models=models_of_maps(layout, dataset, maps_of, case, seed) if maps_of else [],
        seed=seed,
    )
    written = [folder / f"{case}-slice-{z + 1:03d}.png" for z in chosen]
    for z, path in zip(chosen, written, strict=True):
        write(path, explain_picture(view_slice(subject, z)))
        log.info("%s", path)
    return written


def _tell_learnt(layout: Layout, case: str, subset: int) -> None:
    """Say so where, of folds, another one tests the case: this one's picture may flatter."""
    own = subset_that_tests(layout, case)
    if own not in (None, subset) and has_folds(layout):
        fault = f"case {case}: the network of fold {subset} may have learnt from it"
        log.warning("%s; --subset %d is the fold that tests it", fault, own)


def _slices(
    layout: Layout, dataset: Dataset, name: str | None, case: str, store: Store, network: nn.Module
) -> SliceDataset:
    count: Any = store.attrs["slices"]
    planes = [(case, z) for z in range(count)]
    maps = {case: layout.residual_store(name, case)} if name else None
    stores = {case: layout.case_store(case)}
    context, beyond = context_of(network), beyond_of(network)
    return SliceDataset(planes, stores, dataset.slices, maps, context=context, beyond=beyond)


def _network(layout: Layout, dataset: Dataset, experiment: str, subset: int) -> nn.Module:
    settings, mae = dataset.trained(experiment, TO_LOOK_INTO), encoder_mae(dataset, experiment)
    network = build_network(settings, residual_count(dataset, experiment), dataset.slices, mae)
    load_weights(network, layout.model(experiment, subset))
    return network.eval()


def _fullest_slice(store: Store) -> int:
    """The slice with most lesion; the middle slice of a case without lesion."""
    lesion: Any = store.attrs["slices_with_lesion"]
    if not lesion:
        slices: Any = store.attrs["slices"]
        return int(slices) // 2
    sizes = [int((read_array(store, "label", z) > 0).sum()) for z in lesion]
    return int(lesion[int(np.argmax(sizes))])
