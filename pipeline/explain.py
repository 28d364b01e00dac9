"""A look inside: what the MAE passes and the network's units make of single slices.

No stage: nothing depends on what it writes.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from grcsf.inside import Inside, look_inside
from grcsf.mae.adversarial import pasted
from grcsf.mae.build import MaskedModel
from grcsf.residuals import mean_reconstruction
from pipeline.errors import PipelineError
from pipeline.explain_picture import explain_picture
from pipeline.intensity import intensity_range
from pipeline.layout import Layout
from pipeline.models import load_weights
from pipeline.networks import build_network
from pipeline.orientation import orientation_of
from pipeline.residual_maps import masked_models, pass_masks
from pipeline.settings import Dataset, GradCam, Residuals, encoder_mae, residual_count
from pipeline.slices import network_slices, resize
from pipeline.stores import Store, open_store, read_array, read_json, replacing

log = logging.getLogger(__name__)
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Passes:
    """The reconstructions of one slice at one mask ratio, at the masked model's size.

    Attributes:
        title: which map it is.
        masked: what each pass sees, (K, H, W); hidden patches are NaN.
        reconstructed: what each pass gives, visible patches pasted, (K, H, W).
        mean: the mean reconstruction, (H, W).
    """

    title: str
    masked: Plane
    reconstructed: Plane
    mean: Plane


@dataclass(frozen=True)
class SliceView:
    """All that is shown of one slice; planes as stored, not yet turned for display.

    Attributes:
        title: case, slice and experiment.
        image: (h, w) in [0, 1], as the network sees it.
        label: (h, w), 1 = lesion; None without a reference.
        residuals: title → (h, w) in [0, 1].
        passes: one for each residual map of a masked model.
        inside: what the network computed.
    """

    title: str
    image: Plane
    label: npt.NDArray[np.bool_] | None
    residuals: dict[str, Plane]
    inside: Inside
    passes: list[Passes] = field(default_factory=list)


def explain(
    layout: Layout,
    dataset: Dataset,
    experiment: str,
    case: str,
    numbers: Sequence[int],
    subset: int,
    folder: Path,
    seed: int,
) -> list[Path]:
    """Write one picture per slice.

    Args:
        layout: where the results lie.
        dataset: its settings.
        experiment: whose network is looked into.
        case: an ingested case.
        numbers: of slices, from 1 as in the report; none chooses the largest lesion's slice, or
            the middle one.
        subset: whose network.
        folder: to write into.
        seed: of the masks.

    Returns:
        The files written.

    Raises:
        PipelineError: no such case or slice, or an earlier stage has not been run.
    """
    store = _case_store(layout, case)
    chosen = [_index(case, store, number) for number in numbers] or [_telling_slice(store)]
    network = build_network(
        dataset.experiments[experiment],
        residual_count(dataset, experiment),
        dataset.slices,
        encoder_mae(dataset, experiment),
    )
    load_weights(network, layout.model(experiment, subset))
    network.eval()
    name = dataset.experiments[experiment].residuals
    maps = open_store(layout.residual_store(name, case)) if name else None
    residuals = dataset.residuals[name] if name else None
    models: list[MaskedModel] = []
    if isinstance(residuals, Residuals):
        maes = {one.mae: dataset.mae[one.mae] for one in residuals.maps}
        by_name, _ = masked_models(layout, maes)
        models = [by_name[one.mae] for one in residuals.maps]
    written = []
    for z in chosen:
        image = _image(store, z, dataset)
        shown = None if maps is None else _stored_residuals(maps, z)
        view = SliceView(
            title=f"{case}, slice {z + 1} of {store.attrs['slices']}, {experiment}",
            image=image[0, 0].numpy(),
            label=_label(store, z, dataset),
            residuals={} if shown is None else _titled(residuals, shown[0].numpy()),
            inside=look_inside(network, image, shown),
            passes=[]
            if not isinstance(residuals, Residuals)
            else slice_passes(models, residuals, image, case, z, seed),
        )
        path = folder / f"{case}-slice-{z + 1:03d}.png"
        orientation = orientation_of(store.attrs["direction"])  # type: ignore[arg-type]
        with replacing(path) as temporary:
            temporary.write_bytes(explain_picture(view, orientation))
        log.info("%s", path)
        written.append(path)
    return written


def slice_passes(
    models: Sequence[MaskedModel],
    residuals: Residuals,
    image: torch.Tensor,
    case: str,
    z: int,
    seed: int,
) -> list[Passes]:
    """The passes behind each residual map of a slice, under the very masks of the stage.

    Args:
        models: one for each map.
        residuals: the residual set.
        image: (1, 1, h, w), in [0, 1].
        case: its name, which the masks depend on.
        z: number of the slice, from 0.
        seed: of the masks.
    """
    found = []
    for one, model in zip(residuals.maps, models, strict=True):
        small = resize(image, (model.image_size,) * 2)
        masks = pass_masks(case, z, one, residuals.masks, model.num_patches, seed)  # (K, L)
        with torch.inference_mode():
            predictions = model.predict_passes(small, masks[None])  # (K, L, p·p)
        many = small.expand(len(masks), -1, -1, -1)
        hidden = model.unpatchify(masks.unsqueeze(-1).expand(-1, -1, model.patch_size**2))
        mean = mean_reconstruction(model, small, masks[None], visible=residuals.visible)
        found.append(
            Passes(
                f"{one.mask_ratio:.0%} masked",
                torch.where(hidden, torch.nan, many)[:, 0].numpy(),
                pasted(predictions, many, masks)[:, 0].clamp(0, 1).numpy(),
                mean[0, 0].numpy(),
            )
        )
    return found


def _case_store(layout: Layout, case: str) -> Store:
    known = list(read_json(layout.cases)["cases"])
    if case not in known:
        near = difflib.get_close_matches(case, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise PipelineError(
            f"case {case}: not among the {len(known)} ingested cases; {hint}see {layout.cases}"
        )
    return open_store(layout.case_store(case))


def _index(case: str, store: Store, number: int) -> int:
    slices: Any = store.attrs["slices"]
    if not 1 <= number <= slices:
        raise PipelineError(f"--slice: found {number}, but case {case} has slices 1 to {slices}")
    return number - 1


def _telling_slice(store: Store) -> int:
    """The slice with most lesion; the middle one of a case without."""
    lesion: Any = store.attrs["slices_with_lesion"]
    if not lesion:
        slices: Any = store.attrs["slices"]
        return int(slices) // 2
    sizes = [int((read_array(store, "label", z) > 0).sum()) for z in lesion]
    return int(lesion[int(np.argmax(sizes))])


def _image(store: Store, z: int, dataset: Dataset) -> torch.Tensor:
    plane = read_array(store, "image", slice(z, z + 1))
    return network_slices(plane, intensity_range(store.attrs, dataset.slices), dataset.slices.size)


def _label(store: Store, z: int, dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    if not store.attrs["labelled"]:
        return None
    label = torch.from_numpy((read_array(store, "label", z) > 0).astype(np.float32))
    resized = resize(label[None, None], dataset.slices.size)[0, 0]
    return (resized > 0.5).numpy()


def _stored_residuals(maps: Store, z: int) -> torch.Tensor:
    found = read_array(maps, "residual", (slice(None), z)).astype(np.float32)  # (R, h, w)
    return torch.from_numpy(found)[None]


def _titled(residuals: Residuals | GradCam | None, maps: Plane) -> dict[str, Plane]:
    if isinstance(residuals, Residuals):
        titles = [f"residual, {one.mask_ratio:.0%} masked" for one in residuals.maps]
    else:
        titles = [f"Grad-CAM of {residuals.grad_cam}"] if residuals else []
    return dict(zip(titles, maps, strict=True))
