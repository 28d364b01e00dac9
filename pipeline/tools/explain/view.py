"""One slice as `explain` shows it: its passes, its residual maps, and the network's units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import nn

from grcsf.inside import Inside, look_inside
from grcsf.mae.build import MaskedModel
from pipeline.evaluation.orientation import Orientation, orientation_of
from pipeline.networks.reconstruction import Passes, slice_passes
from pipeline.settings import GradCam, Residuals
from pipeline.storage.slices import SliceDataset
from pipeline.storage.zarr_store import Store, read_array

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A case, and the models that are shown at work on it."""

    case: str
    store: Store
    slices: SliceDataset  # as the network sees them, with neighbours, label and maps
    experiment: str
    network: nn.Module  # trained, in evaluation mode
    residuals: Residuals | GradCam | None  # those that the network sees
    models: Sequence[MaskedModel]  # behind each map; none for Grad-CAM
    seed: int  # of the masks


@dataclass(frozen=True)
class SliceView:
    """One slice with its maps; planes are as stored, not yet turned for display."""

    title: str
    orientation: Orientation
    field_mm: tuple[float, float]  # height and width of every plane once it is turned
    image: Plane  # (h, w) in [0, 1], as the network sees it
    label: npt.NDArray[np.bool_] | None  # (h, w), 1 = lesion; None without a reference
    residuals: dict[str, Plane]  # title → (h, w) in [0, 1], or [−1, 1]
    signed: bool  # whether these are in [−1, 1]
    inside: Inside
    passes: list[Passes] = field(default_factory=list)  # none of an empty slice


def view_slice(subject: Subject, z: int) -> SliceView:
    """Compute the view of slice z, counted from 0.

    Raises:
        PipelineError: a store is damaged.
    """
    attributes, item = subject.store.attrs, subject.slices[z]
    seen, maps = item["image"][None], item.get("residuals")  # (1, 1 + 2c, h, w), (R, h, w)
    middle = seen.shape[1] // 2  # the slice among its neighbours
    image = seen[:, middle : middle + 1]
    plane = read_array(subject.store, "image", z)
    orientation = orientation_of(attributes["direction"])  # type: ignore[arg-type]
    pixel_mm = orientation.pixel_mm(attributes["spacing"])  # type: ignore[arg-type]
    rows, columns = orientation.plane(plane).shape
    passes: list[Passes] = []
    # stage residual_maps computes no passes of an empty slice
    if isinstance(subject.residuals, Residuals) and plane.min() != plane.max():
        masks = (subject.case, z, subject.seed)
        passes = slice_passes(subject.models, subject.residuals, image, *masks)
    residuals: dict[str, Plane] = {}
    if subject.residuals is not None and maps is not None:
        residuals = dict(zip(subject.residuals.titles, maps.numpy(), strict=True))
    return SliceView(
        title=f"{subject.case}, slice {z + 1} of {attributes['slices']}, {subject.experiment}",
        orientation=orientation,
        field_mm=(rows * pixel_mm[0], columns * pixel_mm[1]),
        image=image[0, 0].numpy(),
        label=item["label"][0].numpy() > 0 if "label" in item else None,
        residuals=residuals,
        signed=subject.residuals is not None and subject.residuals.signed,
        inside=look_inside(subject.network, seen, None if maps is None else maps[None]),
        passes=passes,
    )
