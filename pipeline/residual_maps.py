"""Stage `residual_maps`: reconstructs every slice, and writes a residual store for each case.

Its stores are a cache: one whose fingerprint matches is never computed again. Slices of several
cases share a batch; a case's store is written as soon as its last slice is done.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from toolz import partition_all

from grcsf.mae.build import MaskedModel
from grcsf.mae.precision import Precision, at_precision, compile_layers
from grcsf.residuals import multi_ratio_residuals
from grcsf.transfer import send
from pipeline.errors import PipelineError
from pipeline.networks.build import empty_masked_model, masked_models
from pipeline.networks.devices import compile_fault, compute_device, fetch, multiplies_bf16
from pipeline.networks.prefetch import ahead, behind, one_behind
from pipeline.networks.reconstruction import CaseInProgress, SliceTask, prepare_case, slice_tasks
from pipeline.networks.weights import weights_digest
from pipeline.settings import HEALTHY, Mae, Residuals, Resources, Slices
from pipeline.settings.instances import maes_behind
from pipeline.storage.batches import in_batch
from pipeline.storage.files import fingerprint, read_json
from pipeline.storage.intensity import image_key
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import (
    StillRead,
    find_or_link,
    write_batch,
    write_residuals,
)
from pipeline.storage.roles import cases_of_other_subsets

VERSION = 3
log = logging.getLogger(__name__)
Attributes = Mapping[str, Any]


def residual_maps(
    layout: Layout,
    name: str,
    batch: str,
    settings: Residuals,
    maes: Mapping[str, Mae],
    subsets: Sequence[int],  # of the split; stores are due for their cases and those of no subset
    slices: Slices,
    seed: int,
    resources: Resources,
    still_read: StillRead | None = None,
    *,
    apart: bool = False,
) -> None:
    """Make the missing residual stores of one batch of cases, and write the batch's manifest.

    `apart`, the slices of a case never share the network's batches with those of another one, so
    that which others there are does not change even the last bit of its maps.
    With `still_read` only those that it names are made, and all of them are given back later.

    Raises:
        PipelineError: an MAE or a case store is missing or damaged; all other stores are made.
    """
    cases = read_json(layout.cases)["cases"]
    others = cases_of_other_subsets(layout, subsets)
    instances = maes_behind(name, maes)
    others |= {name for name, case in cases.items() if case["role"] == HEALTHY}
    wanted = sorted(case for case in cases if in_batch(case, batch) and case not in others)
    key_parts = {
        "weights": {mae: weights_digest(layout.mae(instances[mae])) for mae in sorted(maes)},
        "residuals": settings.model_dump(mode="json"),
        "slices": slices.of_networks(),
        "seed": seed,
        "version": VERSION,
    }

    def key_of(case: str) -> str:
        return fingerprint({**key_parts, **image_key(cases[case], slices)})

    keys = {case: key_of(case) for case in wanted}
    asked = sorted(still_read(wanted, key_of)) if still_read else wanted
    shapes = {case: (len(settings.maps), cases[case]["slices"], *slices.size) for case in asked}
    there = {case: find_or_link(layout, name, case, keys[case], shapes[case]) for case in asked}
    missing = [case for case in asked if not there[case]]
    log.info("%s %s: %d cases, %d to make", name, batch, len(wanted), len(missing))
    if missing:
        due = {case: (keys[case], cases[case]) for case in missing}
        how = (settings, slices, seed, resources)
        _make(layout, name, due, maes, key_parts, *how, apart=apart)
    write_batch(layout, name, batch, keys, given_back=still_read is not None)


def _make(
    layout: Layout,
    name: str,
    due: Mapping[str, tuple[str, Attributes]],
    maes: Mapping[str, Mae],
    made_by: Attributes,
    settings: Residuals,
    slices: Slices,
    seed: int,
    resources: Resources,
    *,
    apart: bool,
) -> None:
    """Make the stores of the cases in `due`, of each its fingerprint and its entry of ingest."""
    device = compute_device(resources.gpus)
    precision = precision_on(settings.precision, device)
    shapes = {mae: empty_masked_model(chosen) for mae, chosen in maes.items()}
    map_shapes = [shapes[part.mae] for part in settings.maps]
    threads = 2 if resources.gpus else 1  # one thread reads or writes more slowly than a GPU works

    faults: dict[str, PipelineError] = {}

    def prepare(case: str) -> list[tuple[CaseInProgress, list[SliceTask]]]:
        key, ingested = due[case]
        try:
            return [prepare_case(layout, case, ingested, key, settings, map_shapes, slices, seed)]
        except PipelineError as error:
            faults[case] = error
            return []

    cases = itertools.chain.from_iterable(ahead(prepare, due, threads))
    instances = maes_behind(name, maes)
    trained = {instances[mae]: chosen for mae, chosen in maes.items()}
    models = _models(layout, trained, device, precision, compiled=resources.compile)
    map_models = [models[instances[part.mae]] for part in settings.maps]
    computed = {"precision": precision, "device": device.type, "compiled": resources.compile}
    count = itertools.count(1)

    def keep_case(case: CaseInProgress) -> None:
        _keep(layout, name, case, made_by, computed)
        number = next(count)
        progress = {"done": number, "of": len(due)}
        log.info("%s: %d of %d (%s)", name, number, len(due), case.name, extra=progress)

    with behind(keep_case, threads) as keep:
        tasks = slice_tasks(cases, keep)
        of_case = itertools.groupby(tasks, lambda task: task.case.name if apart else "")
        sizes = (partition_all(resources.slices_at_once, own) for _, own in of_case)
        groups = itertools.chain.from_iterable(sizes)
        fitting: dict[tuple[int, int], int] = {}
        queued = (
            (group, _queue(group, map_models, settings, device, precision, fitting))
            for group in groups
        )
        _collect(queued, keep)
    if faults:
        findings = [faults[case].findings for case in due if case in faults]
        raise PipelineError(*itertools.chain(*findings))


def _models(
    layout: Layout,
    maes: Mapping[str, Mae],
    device: torch.device,
    precision: Precision,
    *,
    compiled: bool,
) -> dict[str, MaskedModel]:
    """The trained masked models by name, ready to compute on the device."""
    models = {
        mae: at_precision(model.to(device), precision)
        for mae, model in masked_models(layout, maes).items()
    }
    if compiled:
        for model in models.values():
            compile_layers(model)
    return models


def _collect(
    queued: Iterable[tuple[Sequence[SliceTask], Callable[[], torch.Tensor]]],
    keep: Callable[[CaseInProgress], None],
) -> None:
    """Put each batch's residuals into its cases, and keep every case that is then complete."""
    started = time.monotonic()
    for group, residuals in one_behind(queued):
        maps = residuals().numpy()
        seconds, started = time.monotonic() - started, time.monotonic()
        for task, residual in zip(group, maps, strict=True):
            task.case.residual[:, task.z] = residual
            task.case.seconds += seconds / len(group)
            task.case.remaining -= 1
            if task.case.remaining == 0:
                keep(task.case)


def _queue(
    group: Sequence[SliceTask],
    models: Sequence[MaskedModel],
    settings: Residuals,
    device: torch.device,
    precision: Precision,
    fitting: dict[tuple[int, int], int],
) -> Callable[[], torch.Tensor]:
    """Start to reconstruct a batch; the function waits for its residuals (B, R, h, w)."""
    images = send(torch.stack([task.image for task in group]), device)  # (B, 1, h, w)
    # masks stay on the CPU, because sorting them on a GPU would wait for all work queued there
    map_passes = list(zip(*(task.passes for task in group), strict=True))
    masks = [torch.stack([part.masks for part in passes]) for passes in map_passes]
    counted = [torch.stack([part.counted for part in passes]) for passes in map_passes]
    try:
        residuals = multi_ratio_residuals(
            list(models),
            images,
            masks,  # R of (B, K, L)
            visible=settings.visible,
            kind=settings.difference,
            counted=counted,  # R of (B, L)
            dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
            fitting=fitting,
        )
    except RuntimeError as error:
        if (fault := compile_fault(error)) is None:
            raise
        raise fault from error
    # rounded on the device: numpy is slow, and this thread would meanwhile queue nothing
    return fetch(residuals.half())


def _keep(
    layout: Layout, name: str, case: CaseInProgress, made_by: Attributes, computed: Attributes
) -> None:
    """Write the store of a finished case, whose residuals have to be finite."""
    if not np.isfinite(case.residual).all():
        raise PipelineError(
            f"case {case.name}: found residuals that are no finite numbers; the weights of the MAE "
            f"{' or '.join(made_by['weights'])} make them: train it again, from another checkpoint "
            "or with precision: fp32"
        )
    attributes = {
        **made_by,
        "case": case.name,
        "dataset": layout.dataset,
        "fingerprint": case.fingerprint,
        "image": case.image_digest,
        "coverage": [{"min": least, "mean": mean} for least, mean in case.coverages],
        "computed": computed,
        "seconds": round(case.seconds, 3),
    }
    write_residuals(layout, name, case.name, case.residual, attributes)


def precision_on(asked: Literal["auto", "fp32", "bf16", "int8"], device: torch.device) -> Precision:
    """The precision in which a job's device computes.

    Raises:
        PipelineError: int8 is asked for on a GPU.
    """
    if asked == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if asked == "int8" and device.type != "cpu":
        fault = "residuals.precision: found int8, but resources.gpus gives this job a GPU"
        raise PipelineError(f"{fault}; set precision: bf16, which is faster there")
    return asked
