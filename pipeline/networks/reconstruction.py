"""Prepares cases for reconstruction, hands on their slices, and shows the passes of one slice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from toolz import partition_all

from grcsf.mae.adversarial import pasted
from grcsf.mae.build import MaskedModel
from grcsf.mae.masking import coverage, slice_masks, tissue_masks
from grcsf.resampling import resize
from grcsf.residuals import mean_reconstruction, tissue_patches
from pipeline.errors import PipelineError
from pipeline.networks.build import masked_models
from pipeline.networks.weights import weights_digest
from pipeline.settings import Dataset, MaskScheme, ResidualMap, Residuals, Slices, configured
from pipeline.settings.instances import maes_behind
from pipeline.storage.intensity import image_key, intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import array_digest, open_store, read_array

Plane = npt.NDArray[np.float32]
# Slices resized together: one at a time takes eight times as long, all at once take memory.
PREPARED = 32


@dataclass
class CaseInProgress:
    """A case whose slices are being reconstructed."""

    name: str
    fingerprint: str  # of its residuals
    residual: npt.NDArray[np.float16]  # (ratio, z, h, w); empty slices stay 0
    image_digest: str  # SHA-256
    remaining: int  # slices neither empty nor done
    coverages: list[tuple[int, float]]  # one per ratio; none if every slice is empty
    seconds: float  # of reading, and its slices' share of their batches


class PassMasks(NamedTuple):
    """The patches that the passes of a slice hide for one map, and those whose residual counts."""

    masks: torch.Tensor  # (K, L) bool, 1 = masked
    counted: torch.Tensor  # (L,) bool


@dataclass(frozen=True)
class SliceTask:
    """A slice to reconstruct: its case, its number, its pixels (1, h, w) and its masks per map."""

    case: CaseInProgress
    z: int
    image: torch.Tensor
    passes: list[PassMasks]


@dataclass(frozen=True)
class Passes:
    """The reconstructions of one slice at one mask ratio, at the masked model's size."""

    title: str
    masked: Plane  # the input of each pass, (K, H, W); hidden patches are NaN
    reconstructed: Plane  # the output of each pass, with visible patches pasted, (K, H, W)
    mean: Plane  # the mean reconstruction, (H, W)


def prepare_case(
    layout: Layout,
    name: str,
    ingested: Mapping[str, Any],  # its entry in the manifest of ingest
    fingerprint: str,  # of its residuals
    settings: Residuals,
    models: Sequence[MaskedModel],  # of each map
    slices: Slices,
    seed: int,
) -> tuple[CaseInProgress, list[SliceTask]]:
    """A case, and its slices to reconstruct; empty (constant) slices need no pass.

    Raises:
        PipelineError: the store is damaged, or its image is not that of the manifest.
    """
    started = time.monotonic()
    image, limits = _read_image(layout, name, ingested, slices)
    shown = [z for z, plane in enumerate(image) if plane.min() != plane.max()]
    planes = [
        plane  # (1, h, w)
        for part in partition_all(PREPARED, shown)
        for plane in network_slices(image[list(part)], limits, slices.size)
    ]
    passes = [
        [
            pass_masks(name, z, plane, chosen, settings.masks, model, seed)
            for chosen, model in zip(settings.maps, models, strict=True)
        ]
        for z, plane in zip(shown, planes, strict=True)
    ]
    case = CaseInProgress(
        name=name,
        fingerprint=fingerprint,
        residual=np.zeros((len(settings.maps), len(image), *slices.size), np.float16),
        image_digest=str(ingested["sha256_image"]),
        remaining=len(shown),
        coverages=[
            coverage(torch.stack([slice_passes.masks for slice_passes in of_map]))
            for of_map in zip(*passes, strict=True)
        ],
        seconds=0.0,
    )
    tasks = [SliceTask(case, *parts) for parts in zip(shown, planes, passes, strict=True)]
    case.seconds = time.monotonic() - started
    return case, tasks


def _read_image(
    layout: Layout, name: str, ingested: Mapping[str, Any], slices: Slices
) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """A case's image (z, y, x), and the source values that become 0 and 1."""
    path = layout.case_store(name)
    store = open_store(path)
    image = read_array(store, "image")
    if image_key(store.attrs, slices) != image_key(ingested, slices) or (
        array_digest(image) != ingested["sha256_image"]
    ):
        raise PipelineError(
            f"case {name}: {path} holds another image than {layout.cases} says; delete it and run "
            "again"
        )
    return image, intensity_range(store.attrs, slices)


def slice_tasks(
    prepared: Iterable[tuple[CaseInProgress, list[SliceTask]]],
    keep: Callable[[CaseInProgress], None],
) -> Iterator[SliceTask]:
    """The tasks of every case in turn; a case that has none goes to `keep` at once."""
    for case, tasks in prepared:
        if not tasks:
            keep(case)
        yield from tasks


def pass_masks(
    case: str,
    z: int,
    image: torch.Tensor,
    chosen: ResidualMap,
    scheme: MaskScheme,
    model: MaskedModel,
    seed: int,
) -> PassMasks:
    """The masks of a slice's passes for one map; `image` is (1, h, w), in [0, 1]."""
    if scheme == "tissue":
        counted = tissue_patches(model, image[None])[0]
        draw = partial(tissue_masks, counted.numpy())
    else:
        counted = torch.ones(model.num_patches, dtype=torch.bool)
        draw = partial(slice_masks, patches=model.num_patches, scheme=scheme)
    ratio, passes = chosen.mask_ratio, chosen.passes
    masks = draw(seed=seed, case=case, slice_index=z, mask_ratio=ratio, passes=passes)
    return PassMasks(torch.from_numpy(masks), counted)


def models_of_maps(
    layout: Layout, dataset: Dataset, name: str, case: str, seed: int
) -> list[MaskedModel]:
    """The masked model behind each map of an instance of a residual set; none for Grad-CAM.

    Raises:
        PipelineError: the case's store was made by others, or one of them is missing or damaged.
    """
    residuals = dataset.residuals[configured(name)]
    if not isinstance(residuals, Residuals):
        return []
    maes = {part.mae: dataset.mae[part.mae] for part in residuals.maps}
    instances = maes_behind(name, maes)
    models = masked_models(layout, {instances[mae]: chosen for mae, chosen in maes.items()})
    path = layout.residual_store(name, case)
    made_by = open_store(path).attrs
    wanted = {
        "weights": {mae: weights_digest(layout.mae(instances[mae])) for mae in maes},
        "residuals": residuals.model_dump(mode="json"),
        "slices": dataset.slices.of_networks(),
        "seed": seed,
    }
    if any(made_by[key] != value for key, value in wanted.items()):
        raise PipelineError(
            f"case {case}: {path} was made by another MAE or with other settings than it would be "
            "now, so the passes behind it cannot be shown; run residual_maps first"
        )
    return [models[instances[part.mae]] for part in residuals.maps]


def slice_passes(
    models: Sequence[MaskedModel],  # of each map
    residuals: Residuals,
    image: torch.Tensor,  # (1, 1, h, w), in [0, 1]
    case: str,
    z: int,  # from 0
    seed: int,
) -> list[Passes]:
    """The passes behind each residual map of a slice, with the masks of stage residual_maps."""
    passes = []
    for part, model in zip(residuals.maps, models, strict=True):
        small = resize(image, (model.image_size,) * 2)
        masks, counted = pass_masks(case, z, image[0], part, residuals.masks, model, seed)  # (K, L)
        with torch.inference_mode():
            predictions = model.predict_passes(small, masks[None])  # (K, L, p·p)
        many = small.expand(len(masks), -1, -1, -1)
        hidden = model.unpatchify(masks.unsqueeze(-1).expand(-1, -1, model.patch_size**2))
        mean = mean_reconstruction(
            model, small, masks[None], visible=residuals.visible, counted=counted[None]
        )
        masked = torch.where(hidden, torch.nan, many)[:, 0].numpy()
        reconstructed = pasted(predictions, many, masks)[:, 0].clamp(0, 1).numpy()
        title = f"{part.mask_ratio:.0%} masked"
        passes.append(Passes(title, masked, reconstructed, mean[0, 0].numpy()))
    return passes
