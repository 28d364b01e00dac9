"""Stage `predict`: lesion probabilities of test cases and of cases without reference."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from grcsf.resampling import source_slices
from pipeline.errors import PipelineError
from pipeline.networks.build import arranged, beyond_of, build_network, context_of
from pipeline.networks.devices import compute_device
from pipeline.networks.weights import load_weights
from pipeline.prediction.ensemble import Member, ensemble_predictor
from pipeline.prediction.given import given_predictor
from pipeline.prediction.predictor import Predictor, Probability
from pipeline.prediction.sam import sam_predictor
from pipeline.settings import (
    AnyExperiment,
    EnsembleExperiment,
    Experiment,
    GivenPredictions,
    Mae,
    Resources,
    SamExperiment,
    Slices,
    Untrained,
)
from pipeline.storage.batches import ALL, batch_part, drop_other_parts, in_batch
from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.folders import listed
from pipeline.storage.intensity import image_key, intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import MAPS_SECONDS, residual_fingerprint
from pipeline.storage.roles import external_test_cases
from pipeline.storage.slices import network_residuals, slices_in_context
from pipeline.storage.zarr_store import (
    Store,
    is_current,
    open_store,
    read_array,
    store_attributes,
    write_store,
)

VERSION = 2
log = logging.getLogger(__name__)
GEOMETRY = ("spacing", "origin", "direction")


def predict(
    layout: Layout,
    name: str,
    subset: int,
    settings: AnyExperiment,
    residual_count: int,
    slices: Slices,
    resources: Resources,
    mae: Mae | None = None,
    instance: str | None = None,  # of `settings.residuals`, where the subset has its own
    *,
    unlabelled: bool = True,
    members: Sequence[Member] = (),  # of an ensemble
    batch: str = ALL,
) -> None:
    """Write a probability store for each case of a batch to predict, and their manifest.

    They are the subset's test cases, those of external data sets and, if asked for, the cases
    without reference. A network, SAM, given masks or the mean of several networks fill the stores.

    Raises:
        PipelineError: what predicts is missing, damaged or of no use; of given masks, all faults.
    """
    tested, further = predicted_cases(layout, subset, batch, unlabelled=unlabelled)
    match settings:
        case GivenPredictions():
            predictor = given_predictor(layout, name, subset, settings, tested, further, batch)
        case SamExperiment():
            chosen = (layout, name, subset, settings, slices, resources)
            predictor = sam_predictor(*chosen, tested, further, batch)
        case EnsembleExperiment(uncertainty=asked):
            predictor = ensemble_predictor(
                layout, name, members, tested, further, uncertainty=asked
            )
        case Experiment():
            network = build_network(settings, residual_count, slices, mae)
            residuals = instance or settings.residuals
            given = (layout, name, subset, network, residuals, settings, slices, resources)
            predictor = _network_predictor(*given, [*tested, *further])
    keys = _write_stores(layout, name, subset, predictor)
    manifest = layout.predictions(name, batch_part(subset, batch))
    stores = [layout.prediction_store(name, subset, case) for case in keys]
    content: dict[str, Any] = {"cases": keys, "outputs": listed(stores, manifest)}
    if isinstance(settings, Untrained):
        opened = map(open_store, stores)
        content["parameters"] = next((store.attrs.get("parameters") for store in opened), None)
    if predictor.uncertainty is not None:
        content["uncertainty"] = True
    write_json(manifest, content)
    drop_other_parts(layout.predictions(name, subset), batch)


def predicted_cases(
    layout: Layout, subset: int, batch: str = ALL, *, unlabelled: bool
) -> tuple[list[str], list[str]]:
    """The cases that a subset's networks predict: the tested ones, and those without reference."""
    split = read_json(layout.split)
    external = (case for _, case in external_test_cases(layout, [subset]))
    tested = [*split["subsets"][str(subset)]["test"], *external]
    further = split["unlabelled"] if unlabelled else []
    return (
        [case for case in tested if in_batch(case, batch)],
        [case for case in further if in_batch(case, batch)],
    )


def network_key(
    store: Store, weights: str, slices: Slices, residuals: str | None
) -> dict[str, Any]:
    """What a network's probabilities are made from; `residuals`: the fingerprint of the maps."""
    return {
        "weights": weights,
        **image_key(store.attrs, slices),
        "residuals": residuals,
        "slices": slices.of_networks(),
    }


def made_by(key: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """All that a case's probabilities are made from: what predicts, and the case's grid."""
    return {**key, "geometry": [store.attrs[part] for part in GEOMETRY], "version": VERSION}


def _write_stores(layout: Layout, name: str, subset: int, predictor: Predictor) -> dict[str, str]:
    """Write the stores that are not there yet; the fingerprint of each case's."""
    keys, faults = {}, list(predictor.faults or ())
    for case in predictor.cases:
        store = open_store(layout.case_store(case))
        geometry: dict[str, Any] = {part: store.attrs[part] for part in GEOMETRY}
        key = made_by(predictor.key(case, store), store)
        keys[case] = fingerprint(key)
        path = layout.prediction_store(name, subset, case)
        if is_current(path, keys[case]):
            continue
        further = predictor.attributes()  # loads what predicts, which is no case's own time
        started = time.monotonic()
        try:
            arrays = {"probability": predictor.probability(case, store)}
            if predictor.uncertainty is not None:
                arrays["uncertainty"] = predictor.uncertainty(case, store)
        except PipelineError as error:
            if predictor.faults is None:
                raise
            faults += error.findings
            continue
        seconds = round(time.monotonic() - started, 3)  # reading included
        attributes: dict[str, Any] = {"case": case, "fingerprint": keys[case], "made_by": key}
        attributes["seconds"] = seconds
        attributes |= {**geometry, **further, **predictor.of_case(case)}
        write_store(path, arrays, attributes)
        progress = {"done": len(keys), "of": len(predictor.cases)}
        log.info("%s, subset %d: predicted %s", name, subset, case, extra=progress)
    if faults:
        raise PipelineError(*faults)
    return keys


def _network_predictor(
    layout: Layout,
    name: str,
    subset: int,
    network: nn.Module,
    residuals: str | None,
    settings: Experiment,
    slices: Slices,
    resources: Resources,
    cases: Sequence[str],
) -> Predictor:
    """The experiment's trained network, which sees these residual maps."""
    weights = load_weights(network, layout.model(name, subset))["weights_sha256"]
    device = compute_device(resources.gpus)
    arranged(network, settings.training).to(device).eval()

    def key(case: str, store: Store) -> dict[str, Any]:
        maps = residual_fingerprint(layout, residuals, case) if residuals else None
        return network_key(store, weights, slices, maps)

    def probability(case: str, store: Store) -> Probability:
        maps = open_store(layout.residual_store(residuals, case)) if residuals else None
        return predict_case(network, store, maps, slices, device, resources.slices_at_once)

    def of_case(case: str) -> dict[str, Any]:
        maps = store_attributes(layout.residual_store(residuals, case)) if residuals else None
        return {MAPS_SECONDS: maps["seconds"]} if maps and "seconds" in maps else {}

    return Predictor(cases, key, probability, of_case=of_case)


def predict_case(
    network: nn.Module,
    store: Store,
    residual_store: Store | None,
    slices: Slices,
    device: torch.device,
    batch: int,
) -> Probability:
    """Probabilities `(z, y, x)` in [0, 1] on the source's grid, computed in batches of slices.

    A slice of one intensity shows no lesion: it has probability 0, and no network sees it.

    Raises:
        PipelineError: residual maps have a hole, or the network's output is not finite.
    """
    image: Any = store["image"]
    limits = intensity_range(store.attrs, slices)
    context, beyond = context_of(network), beyond_of(network)
    probability = np.zeros(image.shape, np.float16)
    for start in range(0, image.shape[0], batch):
        part = slice(start, min(start + batch, image.shape[0]))
        read = partial(read_array, store, "image")
        depth = image.shape[0]
        shown = slices_in_context(read, part, depth, context, limits, slices.size, beyond)
        own = shown[:, context].flatten(1)  # (b, h · w)
        filled = own.amax(dim=1) > own.amin(dim=1)
        if not bool(filled.any()):
            continue
        images = shown[filled].to(device)
        residuals = None
        if residual_store is not None:
            maps = read_array(residual_store, "residual", (slice(None), part))  # (R, b, h, w)
            # the path of a shared store does not end in the case's name
            case, path = str(store.attrs.get("case")), residual_store.store_path
            maps_shown = network_residuals(maps, slices.size, case, path, start)
            residuals = maps_shown[filled].to(device)
        with torch.inference_mode():
            # (b, 1, h, w) → (b, 1, y, x)
            predicted = source_slices(torch.sigmoid(network(images, residuals)), image.shape[1:])
        if not bool(torch.isfinite(predicted).all()):
            raise PipelineError(
                f"case {store.attrs.get('case', store.store_path)}: the network's output is no "
                f"number in slices {start} to {part.stop - 1}; train with precision fp32"
            )
        probability[part][filled.numpy()] = predicted[:, 0].half().cpu().numpy()
    return probability
