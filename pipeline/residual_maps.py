"""Stage `residual_maps`: MAE reconstructions of every slice, kept as one residual store per case.

The expensive stage, and so a cache: a store whose fingerprint (image, MAE weights, settings,
`VERSION`) matches is never computed again. Slices of several cases share a batch; a case's store is
written as soon as its last slice is done.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from toolz import partition_all

from grcsf.mae.build import MaskedModel
from grcsf.mae.precision import Precision, at_precision, compile_layers
from grcsf.residuals import multi_ratio_residuals
from grcsf.transfer import send
from pipeline.errors import PipelineError
from pipeline.networks.build import masked_model, masked_models
from pipeline.networks.devices import compute_device, fetch, multiplies_bf16
from pipeline.networks.prefetch import ahead, behind, one_behind
from pipeline.networks.reconstruction import OpenCase, Work, open_case, slices_of
from pipeline.networks.weights import weights_digest
from pipeline.settings import Mae, Residuals, Resources, Slices
from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.intensity import shown_from
from pipeline.storage.layout import Layout, in_batch
from pipeline.storage.residual_store import is_made, write_residuals
from pipeline.storage.roles import cases_of_other_subsets

VERSION = 3
log = logging.getLogger(__name__)


def residual_maps(
    layout: Layout,
    name: str,
    batch: str,
    settings: Residuals,
    maes: Mapping[str, Mae],
    subsets: Sequence[int],
    slices: Slices,
    seed: int,
    resources: Resources,
) -> None:
    """Make the missing residual stores of one batch of cases, and write the batch's manifest.

    Only cases of these subsets of the split are due, and those that no subset has.

    Raises:
        PipelineError: an MAE or a case store is missing or damaged; all other cases are made first.
    """
    cases = read_json(layout.cases)["cases"]
    others = cases_of_other_subsets(layout, subsets)
    mine = sorted(case for case in cases if in_batch(case, batch) and case not in others)
    key_parts = {
        "weights": {mae: weights_digest(layout.mae(mae)) for mae in sorted(maes)},
        "residuals": settings.model_dump(mode="json"),
        "slices": slices.model_dump(mode="json"),
        "seed": seed,
        "version": VERSION,
    }
    keys = {case: fingerprint({**key_parts, **shown_from(cases[case], slices)}) for case in mine}
    missing = [case for case in mine if not is_made(layout, name, case, keys[case])]
    log.info("%s %s: %d cases, %d to make", name, batch, len(mine), len(missing))
    if missing:
        due = {case: (keys[case], cases[case]) for case in missing}
        _make(layout, name, due, maes, key_parts, settings, slices, seed, resources)
    write_json(
        layout.residual_batch(name, batch),
        {"cases": keys, "outputs": [f"{case}.zarr" for case in mine]},
    )


def _make(
    layout: Layout,
    name: str,
    due: Mapping[str, tuple[str, Mapping[str, Any]]],
    maes: Mapping[str, Mae],
    made_by: Mapping[str, Any],
    settings: Residuals,
    slices: Slices,
    seed: int,
    resources: Resources,
) -> None:
    """Reconstruct the slices of the cases that are due, and keep the maps.

    A case comes with its fingerprint, and with what the manifest says of it.
    """
    device = compute_device(resources.gpus)
    precision = precision_on(settings.precision, device)
    shapes = {mae: masked_model(one) for mae, one in maes.items()}
    drawn_for = [shapes[one.mae] for one in settings.maps]
    threads = 2 if resources.gpus else 1  # a GPU is faster than one thread reads, or writes

    def opened_or_fault(case: str) -> tuple[OpenCase, list[Work]] | PipelineError:
        key, ingested = due[case]
        try:
            return open_case(layout, case, ingested, key, settings, drawn_for, slices, seed)
        except PipelineError as error:
            return error

    opened = ahead(opened_or_fault, due, threads)
    faults: list[PipelineError] = []
    lowered = {
        mae: at_precision(model.to(device), precision)
        for mae, model in masked_models(layout, maes).items()
    }
    if resources.compile:
        for model in lowered.values():
            compile_layers(model)
    per_map = [lowered[one.mae] for one in settings.maps]
    computed = {"precision": precision, "device": device.type, "compiled": resources.compile}
    count = itertools.count(1)

    def keep_case(case: OpenCase) -> None:
        _keep(layout, name, case, made_by, computed)
        log.info("%s: %d of %d (%s)", name, next(count), len(due), case.name)

    with behind(keep_case, threads) as keep:
        sound = slices_of(_without(faults, opened), keep)
        groups = partition_all(resources.slices_at_once, sound)
        fitting: dict[tuple[int, int], int] = {}
        queued = (
            (group, _queue(group, per_map, settings, device, precision, fitting))
            for group in groups
        )
        started = time.monotonic()
        for group, residuals in one_behind(queued):
            maps = residuals().numpy()
            seconds, started = time.monotonic() - started, time.monotonic()
            for item, found in zip(group, maps, strict=True):
                item.case.residual[:, item.z] = found
                item.case.seconds += seconds / len(group)
                item.case.remaining -= 1
                if item.case.remaining == 0:
                    keep(item.case)
    if faults:
        raise PipelineError(*(finding for fault in faults for finding in fault.findings))


def _without(
    faults: list[PipelineError], made: Iterable[tuple[OpenCase, list[Work]] | PipelineError]
) -> Iterator[tuple[OpenCase, list[Work]]]:
    """What could be made; the errors of all else are put aside."""
    for one in made:
        if isinstance(one, PipelineError):
            faults.append(one)
        else:
            yield one


def _queue(
    group: Sequence[Work],
    models: Sequence[MaskedModel],
    settings: Residuals,
    device: torch.device,
    precision: Precision,
    fitting: dict[tuple[int, int], int],
) -> Callable[[], torch.Tensor]:
    """Start reconstructing a batch; the call gives its residuals (B, R, h, w), once they are there.

    Masks stay on the CPU: sorting them on a GPU would wait for all that is queued there. Residuals
    are rounded to float16 on the device, too: numpy is slow at it, and meanwhile this thread would
    queue nothing.
    """
    images = send(torch.stack([item.image for item in group]), device)  # (B, 1, h, w)
    per_map = list(zip(*(item.passes for item in group), strict=True))
    masks = [torch.stack([one.masks for one in passes]) for passes in per_map]
    counted = [torch.stack([one.counted for one in passes]) for passes in per_map]
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
    # named in full: torch imports its compiler, most of a second, only where this line is reached
    except torch._dynamo.exc.TorchDynamoException as error:
        raise PipelineError(
            f"resources.compile: torch cannot compile here ({_said(error)}); install what is "
            "missing, or set resources.compile: false"
        ) from error
    return fetch(residuals.half())


def _said(error: Exception) -> str:
    """The line that says why, out of what a compiler, Triton or torch itself wrote."""
    cause = getattr(error, "inner_exception", error)
    written = getattr(cause, "output", "") or getattr(cause, "details", "") or str(cause)
    lines = [line.strip() for line in str(written).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return [type(cause).__name__, *lines[-1:], *errors[:1]][-1][:300]


def _keep(
    layout: Layout,
    name: str,
    case: OpenCase,
    made_by: Mapping[str, Any],
    computed: Mapping[str, Any],
) -> None:
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
    """What a job's device computes in.

    Raises:
        PipelineError: int8 on a GPU.
    """
    if asked == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if asked == "int8" and device.type != "cpu":
        raise PipelineError(
            "residuals.precision: found int8, but resources.gpus gives this job a GPU; set "
            "precision: bf16, which is faster there"
        )
    return asked
