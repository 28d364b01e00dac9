"""Slices of a case with their maps and masks, turned for display: the content of its pictures.

A picture shows the slice with most of the largest lesion; without reference, that with most
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.components import component_sizes, label_lesions
from grcsf.intensity import scale_window
from pipeline.errors import PipelineError
from pipeline.evaluation.orientation import Orientation, orientation_of
from pipeline.settings import Dataset, Untrained
from pipeline.settings.instances import residual_instance
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.masks import Mask, has_mask, read_mask, store_geometry
from pipeline.storage.zarr_store import (
    Store,
    StoredArray,
    open_store,
    read_array,
    read_part,
    store_attributes,
    stored_array,
)

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CaseView:
    """One slice of a case, turned for display; all planes cover the same field."""

    case: str
    z: int  # from 0
    slices: int  # of the case
    image: Plane  # (rows, columns) in [0, 1]
    residuals: dict[str, Plane]  # title → (h, w) in [0, 1] or [−1, 1], at the network's size
    signed: bool  # whether these are in [−1, 1]
    reference: Mask | None  # (rows, columns), 1 = lesion; None without a reference
    predictions: dict[str, Mask]  # experiment → (rows, columns), 1 = lesion
    target: Mask  # largest lesion, or all predicted ones: the close-up's centre
    pixel_mm: tuple[float, float]  # height and width of a pixel
    edges: tuple[str, str, str, str]  # the patient's sides at left, right, top and bottom


@dataclass(frozen=True)
class CaseVolumes:
    """A case with its masks whole; its image and maps are read slice by slice."""

    case: str
    store: Store
    label: Mask | None  # (z, y, x), 1 = lesion; None without a reference
    masks: dict[str, Mask]  # experiment → (z, y, x), 1 = lesion
    target: Mask  # (z, y, x): the largest lesion, or all predicted ones
    limits: tuple[float, float]  # of the image: shown as 0 and as 1
    maps: StoredArray | None  # (maps, z, h, w); None where there are none
    titles: tuple[str, ...]  # of the maps
    signed: bool  # whether they are
    orientation: Orientation

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Height and width of a shown pixel."""
        spacing: Any = self.store.attrs["spacing"]
        return self.orientation.pixel_mm(spacing)

    @property
    def fullest(self) -> int:
        """The slice from 0 with most of the largest lesion; without any, the middle one."""
        areas = self.target.sum(axis=(1, 2))
        return int(areas.argmax()) if areas.any() else len(areas) // 2

    @property
    def marked(self) -> list[int]:
        """The slices from 0 with lesion or prediction; without any, the middle one."""
        volumes = [self.target, *self.masks.values(), *([] if self.label is None else [self.label])]
        lines = np.any([volume.any(axis=(1, 2)) for volume in volumes], axis=0)
        return [int(z) for z in np.flatnonzero(lines)] or [self.fullest]


def view_case(
    layout: Layout, dataset: Dataset, case: str, subset: int, z: int | None = None
) -> CaseView:
    """The view of a test or unlabelled case, of slice `z` from 0, or of the slice that shows most.

    Raises:
        PipelineError: a store or a mask is missing, damaged or on another grid.
    """
    volumes = open_case(layout, dataset, case, subset)
    return view_slice(volumes, volumes.fullest if z is None else z)


def open_case(
    layout: Layout, dataset: Dataset, case: str, subset: int, *, maps: bool = True
) -> CaseVolumes:
    """What the views of a test or unlabelled case are made of; without `maps` none are looked for.

    Raises:
        PipelineError: a store or a mask is missing, damaged or on another grid.
    """
    store = open_store(layout.case_store(case))
    attributes: Any = store.attrs
    masks = {
        name: read_mask(layout, name, subset, case, store)
        for name, experiment in dataset.experiments.items()
        if not isinstance(experiment, Untrained) or has_mask(layout, name, subset, case)
    }
    label = read_array(store, "label") > 0 if attributes["labelled"] else None
    if label is not None and label.any():
        target = _largest(label)
    else:
        nothing = np.zeros(store_geometry(store).shape, bool)
        target = np.any(np.stack([nothing, *masks.values()]), axis=0)
    shown = shown_residuals(dataset) if maps else None
    return CaseVolumes(
        case=case,
        store=store,
        label=label,
        masks=masks,
        target=target,
        limits=intensity_range(attributes, dataset.slices),
        maps=None if shown is None else _maps(layout, dataset, shown, case, subset),
        titles=() if shown is None else tuple(dataset.residuals[shown].titles),
        signed=shown is not None and dataset.residuals[shown].signed,
        orientation=orientation_of(attributes["direction"]),
    )


def view_slice(volumes: CaseVolumes, z: int) -> CaseView:
    """The view of slice `z` from 0.

    Raises:
        PipelineError: a store is damaged.
    """
    turned = volumes.orientation.plane
    maps: Any = () if volumes.maps is None else _planes(volumes.maps, volumes.case, z)
    titles = volumes.titles if len(maps) else ()
    return CaseView(
        case=volumes.case,
        z=z,
        slices=len(volumes.target),
        image=turned(scale_window(read_array(volumes.store, "image", z), *volumes.limits)),
        residuals={
            title: turned(plane.astype(np.float32))
            for title, plane in zip(titles, maps, strict=True)
        },
        signed=volumes.signed,
        reference=None if volumes.label is None else turned(volumes.label[z]),
        predictions={name: turned(mask[z]) for name, mask in volumes.masks.items()},
        target=turned(volumes.target[z]),
        pixel_mm=volumes.pixel_mm,
        edges=volumes.orientation.edges,
    )


def shown_residuals(dataset: Dataset) -> str | None:
    """The residual set in the pictures: that of the first experiment that has one."""
    used = (experiment.residuals for experiment in dataset.experiments.values())
    return next(filter(None, used), None)


def _largest(label: Mask) -> Mask:
    lesions, number = label_lesions(label)
    return np.asarray(lesions == 1 + int(component_sizes(lesions, number).argmax()))


def residual_planes(
    layout: Layout, dataset: Dataset, name: str, case: str, subset: int, z: int
) -> dict[str, Plane]:
    """The maps of a residual set of a slice by title, turned for display; none without a store.

    Raises:
        PipelineError: a store is damaged.
    """
    stored = _maps(layout, dataset, name, case, subset)
    if stored is None:
        return {}
    attributes: Any = open_store(layout.case_store(case)).attrs
    orientation = orientation_of(attributes["direction"])
    maps = _planes(stored, case, z)
    planes = [orientation.plane(plane.astype(np.float32)) for plane in maps]
    return dict(zip(dataset.residuals[name].titles, planes, strict=True))


def _maps(
    layout: Layout, dataset: Dataset, name: str, case: str, subset: int
) -> StoredArray | None:
    path = layout.residual_store(residual_instance(dataset, name, subset), case)
    return None if store_attributes(path) is None else stored_array(open_store(path), "residual")


def _planes(maps: StoredArray, case: str, z: int) -> npt.NDArray[Any]:
    """The maps (maps, h, w) of slice `z` from 0, which no picture shows with holes."""
    planes = read_part(maps, (slice(None), z))
    if not np.isfinite(planes).all():
        store = str(maps.store_path).removeprefix("file://").removesuffix("/residual")
        raise PipelineError(
            f"store {store}: found residuals that are no finite numbers in slice {z + 1} of case "
            f"{case}; delete it and run residual-maps again"
        )
    return planes
