"""Stage `residual_maps`: MAE reconstructions of every slice, kept as one residual store per case.

The expensive stage, and so a cache: a store whose fingerprint (image, MAE weights, settings,
`VERSION`) matches is never computed again. Slices of several cases share a batch; a case's store is
written as soon as its last slice is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from toolz import partition_all

from grcsf.mae.build import MaskedModel, build_masked_model
from grcsf.mae.masking import slice_masks
from grcsf.mae.precision import Precision, at_precision
from grcsf.residuals import coverage, multi_ratio_residuals
from pipeline.devices import compute_device, multiplies_bf16
from pipeline.errors import PipelineError
from pipeline.intensity import intensity_range
from pipeline.layout import Layout, in_batch
from pipeline.models import load_weights
from pipeline.overlap import ahead, behind
from pipeline.residual_stores import is_made, write_residuals
from pipeline.settings import Mae, ResidualMap, Residuals, Resources, Slices
from pipeline.slices import network_slices
from pipeline.stores import (
    fingerprint,
    open_store,
    read_array,
    read_json,
    write_json,
)

VERSION = 2
log = logging.getLogger(__name__)


@dataclass
class OpenCase:
    """A case whose slices are being reconstructed."""

    name: str
    fingerprint: str
    residual: npt.NDArray[np.float16]  # (ratio, z, h, w); empty slices stay 0
    image_digest: str
    remaining: int
    size: tuple[int, int]
    coverages: list[list[tuple[int, float]]] = field(default_factory=list)  # slice, then ratio
    seconds: float = 0.0  # reading, and its slices' share of their batches


@dataclass(frozen=True)
class Work:
    """One slice to reconstruct: its case, number, pixels (1, h, w) and masks (K, L) per ratio."""

    case: OpenCase
    z: int
    image: torch.Tensor
    masks: list[torch.Tensor]


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
    """
    cases = read_json(layout.cases)["cases"]
    others = cases_of_other_subsets(layout, subsets)
    mine = sorted(case for case in cases if in_batch(case, batch) and case not in others)
    models, weights = masked_models(layout, maes)
    key_parts = {
        "weights": {mae: weights[mae] for mae in sorted(weights)},
        "residuals": settings.model_dump(mode="json"),
        "slices": slices.model_dump(mode="json"),
        "seed": seed,
        "version": VERSION,
    }
    keys = {case: fingerprint({**key_parts, "image": cases[case]["sha256_image"]}) for case in mine}
    missing = [case for case in mine if not is_made(layout, name, case, keys[case])]
    log.info("%s %s: %d cases, %d to make", name, batch, len(mine), len(missing))
    device = compute_device(resources.gpus)
    precision = _precision(settings.precision, device)
    lowered = {mae: at_precision(model, precision).to(device) for mae, model in models.items()}
    per_map = [lowered[one.mae] for one in settings.maps]
    opened = _open_cases(layout, {case: keys[case] for case in missing}, settings, slices)
    work = _work(ahead(opened), settings, per_map, seed)

    def keep_case(case: OpenCase, number: int) -> None:
        _keep(layout, name, case, key_parts, precision, device)
        log.info("%s: %d of %d (%s)", name, number, len(missing), case.name)

    with behind(keep_case) as keep:
        done = 0
        for group in partition_all(resources.slices_per_batch, work):
            shown = [item for item in group if item.masks]
            if shown:
                started = time.monotonic()
                _reconstruct(shown, per_map, settings, device, precision)
                spent = time.monotonic() - started
                for item in shown:
                    item.case.seconds += spent / len(shown)
            for item in group:
                item.case.remaining -= 1
                if item.case.remaining == 0:
                    done += 1
                    keep(item.case, done)
    write_json(
        layout.residual_batch(name, batch),
        {"cases": keys, "outputs": [f"{case}.zarr" for case in mine]},
    )


def cases_of_other_subsets(layout: Layout, subsets: Sequence[int]) -> set[str]:
    """Cases that train, validate or test in other subsets of the split than these."""
    split = read_json(layout.split)["subsets"]
    others = (roles for number, roles in split.items() if int(number) not in subsets)
    return {case for roles in others for cases in roles.values() for case in cases}


def masked_models(
    layout: Layout, maes: Mapping[str, Mae]
) -> tuple[dict[str, MaskedModel], dict[str, str]]:
    """Trained masked models by name, in evaluation mode, and the digests of their weights.

    Raises:
        PipelineError: one of them is missing or damaged.
    """
    models, weights = {}, {}
    for name, settings in maes.items():
        model = build_masked_model(
            settings.architecture,
            settings.preset,
            image_size=settings.image_size,
            patch_size=settings.patch_size,
        )
        weights[name] = load_weights(model, layout.mae(name))["weights_sha256"]
        models[name] = model.eval()
    return models, weights


def _open_cases(
    layout: Layout, keys: Mapping[str, str], settings: Residuals, slices: Slices
) -> Iterator[tuple[OpenCase, npt.NDArray[Any], tuple[float, float]]]:
    """Each case with its image and intensity range."""
    for name, key in keys.items():
        started = time.monotonic()
        store = open_store(layout.case_store(name))
        image = read_array(store, "image")
        residual = np.zeros((len(settings.maps), len(image), *slices.size), np.float16)
        digest = str(store.attrs["sha256_image"])
        case = OpenCase(name, key, residual, digest, len(image), slices.size)
        case.seconds = time.monotonic() - started
        yield case, image, intensity_range(store.attrs, slices)


def _work(
    opened: Iterable[tuple[OpenCase, npt.NDArray[Any], tuple[float, float]]],
    settings: Residuals,
    models: Sequence[MaskedModel],
    seed: int,
) -> Iterator[Work]:
    """Every slice of every case in turn; an empty (constant) slice has no masks: no pass is due."""
    for case, image, limits in opened:
        for z, plane in enumerate(image):
            masks = []
            if plane.min() != plane.max():
                masks = [
                    pass_masks(case.name, z, one, settings.masks, model.num_patches, seed)
                    for one, model in zip(settings.maps, models, strict=True)
                ]
            yield Work(case, z, network_slices(plane[np.newaxis], limits, case.size)[0], masks)


def pass_masks(
    case: str,
    z: int,
    one: ResidualMap,
    scheme: Literal["random", "stratified"],
    patches: int,
    seed: int,
) -> torch.Tensor:
    """The masks of one slice's passes for one map: (K, L) bool, 1 = masked."""
    masks = slice_masks(
        seed=seed,
        case=case,
        slice_index=z,
        mask_ratio=one.mask_ratio,
        passes=one.passes,
        patches=patches,
        scheme=scheme,
    )
    return torch.from_numpy(masks)  # (K, L)


def _reconstruct(
    group: Sequence[Work],
    models: Sequence[MaskedModel],
    settings: Residuals,
    device: torch.device,
    precision: Precision,
) -> None:
    images = torch.stack([item.image for item in group]).to(device)  # (B, 1, h, w)
    masks = [
        torch.stack([item.masks[index] for item in group]).to(device)  # (B, K, L)
        for index in range(len(settings.maps))
    ]
    residuals = multi_ratio_residuals(
        list(models),
        images,
        masks,
        visible=settings.visible,
        kind=settings.difference,
        dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
    )  # (B, R, h, w)
    for item, residual in zip(group, residuals.cpu().numpy(), strict=True):
        item.case.residual[:, item.z] = residual
        item.case.coverages.append([coverage(mask) for mask in item.masks])


def _keep(
    layout: Layout,
    name: str,
    case: OpenCase,
    made_by: Mapping[str, Any],
    precision: Precision,
    device: torch.device,
) -> None:
    per_map = [
        {"min": min(least for least, _ in found), "mean": float(np.mean([m for _, m in found]))}
        for found in zip(*case.coverages, strict=True)
    ]
    attributes = {
        **made_by,
        "case": case.name,
        "dataset": layout.dataset,
        "fingerprint": case.fingerprint,
        "image": case.image_digest,
        "coverage": per_map,
        "computed": {"precision": precision, "device": device.type},
        "seconds": round(case.seconds, 3),
    }
    write_residuals(layout, name, case.name, case.residual, attributes)


def _precision(asked: Literal["auto", "fp32", "bf16", "int8"], device: torch.device) -> Precision:
    if asked == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if asked == "int8" and device.type != "cpu":
        raise PipelineError(
            "residuals.precision: found int8, but resources.gpus gives this job a GPU; set "
            "precision: bf16, which is faster there"
        )
    return asked
