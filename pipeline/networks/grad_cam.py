"""Grad-CAM of a trained network in place of residual maps (Table 7), in the same stores.

The network of a case's own subset makes its map. That network has not seen the subset's test cases;
it has trained on the others, whose maps are therefore sharper, as in the paper.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from grcsf.grad_cam import grad_cam
from pipeline.networks.build import build_network, encoder_of
from pipeline.networks.devices import compute_device
from pipeline.networks.weights import load_weights
from pipeline.settings import Experiment, GradCam, Resources, Slices
from pipeline.storage.batches import in_batch
from pipeline.storage.files import fingerprint, read_json
from pipeline.storage.intensity import image_key, intensity_range
from pipeline.storage.layout import Layout, stage_version
from pipeline.storage.residual_store import (
    StillRead,
    find_or_link,
    write_batch,
    write_residuals,
)
from pipeline.storage.roles import subset_of_cases
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import Store, open_store, read_array

log = logging.getLogger(__name__)


def grad_cam_maps(
    layout: Layout,
    name: str,
    batch: str,
    settings: GradCam,
    experiment: Experiment,
    subsets: Sequence[int],
    slices: Slices,
    resources: Resources,
    still_read: StillRead | None = None,
) -> None:
    """Make the missing stores of one batch of cases, and write the batch's manifest.

    With `still_read` only those that it names are made, and all of them are given back later.

    Raises:
        PipelineError: the network of a subset is missing or damaged.
    """
    cases = read_json(layout.cases)["cases"]
    networks, weights = _networks(layout, settings, experiment, subsets, slices)
    device = compute_device(resources.gpus)
    of_cases = subset_of_cases(layout, subsets)

    def made_by(case: str) -> dict[str, Any]:
        subset = of_cases[case]
        return {
            "weights": {f"{settings.grad_cam}, subset {subset}": weights[subset]},
            "residuals": settings.model_dump(mode="json"),
            "slices": slices.of_networks(),
            "version": stage_version("residual_maps"),
        }

    def key_of(case: str) -> str:
        return fingerprint({**made_by(case), **image_key(cases[case], slices)})

    keys = {case: key_of(case) for case in of_cases if in_batch(case, batch)}
    for case in sorted(still_read(list(keys), key_of)) if still_read else keys:
        subset = of_cases[case]
        shape = (1, cases[case]["slices"], *slices.size)
        if find_or_link(layout, name, case, keys[case], shape):
            continue
        started = time.monotonic()
        store = open_store(layout.case_store(case))
        network = networks[subset].to(device).eval()
        maps = case_maps(network, store, slices, device, resources.slices_at_once)
        attributes = {
            **made_by(case),
            "case": case,
            "dataset": layout.dataset,
            "fingerprint": keys[case],
            "image": str(store.attrs["sha256_image"]),
            "coverage": [],
            "computed": {"dtype": "float32", "device": device.type},
            "seconds": round(time.monotonic() - started, 3),
        }
        write_residuals(layout, name, case, maps, attributes)
        log.info("%s: %s by the network of subset %d", name, case, subset)
    write_batch(layout, name, batch, keys, given_back=still_read is not None)


def case_maps(
    network: nn.Module, store: Store, slices: Slices, device: torch.device, batch: int
) -> npt.NDArray[np.float16]:
    """Grad-CAM of every slice: (1, z, h, w) in [0, 1]; empty (constant) slices stay 0."""
    image: Any = store["image"]
    limits = intensity_range(store.attrs, slices)
    maps = np.zeros((1, image.shape[0], *slices.size), np.float16)
    for start in range(0, image.shape[0], batch):
        planes = read_array(store, "image", slice(start, min(start + batch, image.shape[0])))
        shown = [z for z, plane in enumerate(planes) if plane.min() != plane.max()]
        if shown:
            images = network_slices(planes[shown], limits, slices.size).to(device)
            maps_of_batch = grad_cam(network, encoder_of(network), images)  # (b, 1, h, w)
            maps[0, [start + z for z in shown]] = maps_of_batch[:, 0].half().cpu().numpy()
    return maps


def _networks(
    layout: Layout,
    settings: GradCam,
    experiment: Experiment,
    subsets: Sequence[int],
    slices: Slices,
) -> tuple[Mapping[int, nn.Module], Mapping[int, str]]:
    """The trained network of each subset, and the digest of its weights."""
    networks, weights = {}, {}
    for subset in subsets:
        networks[subset] = build_network(experiment, 0, slices)
        record = load_weights(networks[subset], layout.model(settings.grad_cam, subset))
        weights[subset] = record["weights_sha256"]
    return networks, weights
