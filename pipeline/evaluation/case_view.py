"""One slice of a case with its maps and masks, turned for display: the content of its picture.

It is the slice with most of the largest lesion; without reference, that with most prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.components import component_sizes, label_lesions
from grcsf.intensity import scale_window
from pipeline.evaluation.orientation import orientation_of
from pipeline.settings import Dataset, Untrained
from pipeline.settings.instances import residual_instance
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.masks import Mask, has_mask, read_mask, store_geometry
from pipeline.storage.zarr_store import open_store, read_array, store_attributes

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


def view_case(
    layout: Layout, dataset: Dataset, case: str, subset: int, z: int | None = None
) -> CaseView:
    """The view of a test or unlabelled case, of slice `z` from 0, or of the slice that shows most.

    Raises:
        PipelineError: a store or a mask is missing, damaged or on another grid.
    """
    store = open_store(layout.case_store(case))
    attributes: Any = store.attrs
    orientation = orientation_of(attributes["direction"])
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
    if z is None:
        z = int(target.sum(axis=(1, 2)).argmax()) if target.any() else len(target) // 2
    limits, shown = intensity_range(attributes, dataset.slices), shown_residuals(dataset)
    return CaseView(
        case=case,
        z=z,
        slices=len(target),
        image=orientation.plane(scale_window(read_array(store, "image", z), *limits)),
        residuals=residual_planes(layout, dataset, shown, case, subset, z) if shown else {},
        signed=shown is not None and dataset.residuals[shown].signed,
        reference=None if label is None else orientation.plane(label[z]),
        predictions={name: orientation.plane(mask[z]) for name, mask in masks.items()},
        target=orientation.plane(target[z]),
        pixel_mm=orientation.pixel_mm(attributes["spacing"]),
        edges=orientation.edges,
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
    path = layout.residual_store(residual_instance(dataset, name, subset), case)
    if store_attributes(path) is None:
        return {}
    attributes: Any = open_store(layout.case_store(case)).attrs
    orientation = orientation_of(attributes["direction"])
    maps = read_array(open_store(path), "residual", (slice(None), z))
    planes = [orientation.plane(plane.astype(np.float32)) for plane in maps]
    return dict(zip(dataset.residuals[name].titles, planes, strict=True))
