"""What can be laid over one another of a case: its image, maps, reference and methods' masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, to_rgb

from pipeline.errors import PipelineError
from pipeline.evaluation.colours import ON_BLACK, REFERENCE, colours_of
from pipeline.evaluation.pictures import map_style
from pipeline.settings import Dataset, repeat_name
from pipeline.settings.instances import residual_instance
from pipeline.storage.batches import parts_of
from pipeline.storage.images.nifti_bytes import nifti_bytes
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.masks import has_mask, read_mask, store_geometry
from pipeline.storage.source_volumes import (
    residual_volume,
    stored_volume,
    viewed_geometry,
    viewed_volume,
)
from pipeline.storage.zarr_store import Store, open_store, read_array
from pipeline.tools.view.cases import ListedCase, shown_repeat

Array = npt.NDArray[Any]  # (z, y, x)
Colour = tuple[int, int, int, int]  # red, green, blue, alpha: 0 to 255
NOTHING: Colour = (0, 0, 0, 0)
SAMPLES = 17  # of a map's colours, between which the page's are linear


@dataclass(frozen=True)
class Layer:
    """One volume of a case, and how it is coloured."""

    kind: Literal["image", "map", "reference", "mask"]
    title: str
    colours: list[Colour]  # from `low` to `high`, evenly
    low: float
    high: float
    read: Callable[[], Array]  # the volume on `viewed_geometry`


def case_layers(layout: Layout, dataset: Dataset, listed: ListedCase, repeat: int) -> list[Layer]:
    """The layers of a case that are there: image, maps, reference, then a mask of each method.

    What is there and damaged is a layer, too: reading it says what is wrong with it.

    Raises:
        PipelineError: the case's own store is damaged.
    """
    store = open_store(layout.case_store(listed.case))
    low, high = intensity_range(store.attrs, dataset.slices)
    grey: list[Colour] = [(0, 0, 0, 255), (255, 255, 255, 255)]
    layers = [Layer("image", "image", grey, low, high, partial(stored_volume, store, "image"))]
    layers += _maps(layout, dataset, listed, store)
    if store.attrs["labelled"]:
        layers.append(_mask("reference", "reference", REFERENCE, partial(_reference, store)))
    return [*layers, *_masks(layout, dataset, listed, store, repeat)]


def nifti(layer: Layer, store: Store) -> bytes:
    """A layer as an uncompressed NIfTI file, which needs no time that a network would save.

    Raises:
        PipelineError: a store or a mask is damaged, or is not as it was written.
    """
    return nifti_bytes(layer.read(), viewed_geometry(store))


def marked_place(store: Store) -> list[float] | None:
    """A voxel of the slice with most lesion, near its middle: x, y, z in mm as NIfTI counts them.

    None without lesion, or where the reference is damaged, which its layer says.
    """
    if not store.attrs["labelled"]:
        return None
    try:
        label = read_array(store, "label") > 0
    except PipelineError:
        return None
    if not label.any():
        return None
    z = int(label.sum(axis=(1, 2)).argmax())
    pixels = np.argwhere(label[z])
    y, x = pixels[np.linalg.norm(pixels - pixels.mean(axis=0), axis=1).argmin()]
    grid = store_geometry(store)
    z_mm, y_mm, x_mm = grid.origin + grid.axes @ (np.array(grid.spacing) * (z, y, x))
    return [-float(x_mm), -float(y_mm), float(z_mm)]  # LPS → RAS


def method_colours(dataset: Dataset) -> dict[str, str]:
    """The colour of each experiment, as in the report."""
    return colours_of(list(dataset.experiments), ON_BLACK)


def _reference(store: Store) -> Array:
    return np.asarray(stored_volume(store, "label") > 0)


def _maps(layout: Layout, dataset: Dataset, listed: ListedCase, store: Store) -> Iterator[Layer]:
    for name, settings in dataset.residuals.items():
        subset = listed.subset or dataset.subsets_with(name)[0]
        path = layout.residual_store(residual_instance(dataset, name, subset), listed.case)
        if not path.exists():
            continue
        style = map_style(_stored_maps(path), signed=settings.signed)
        colours, of_set = _sampled(style["cmap"]), f", {name}" if len(dataset.residuals) > 1 else ""
        for place, title in enumerate(settings.titles):
            read = partial(residual_volume, path, f"residuals.{name}", settings, place, store)
            yield Layer("map", title + of_set, colours, style["vmin"], style["vmax"], read)


def _stored_maps(path: Path) -> dict[str, Array]:
    """The maps whose values decide their colours' ends; none of a damaged store."""
    try:
        stored = read_array(open_store(path), "residual")  # (R, z, h, w)
    except PipelineError:
        return {}
    whole = bool(np.isfinite(stored).all())
    return {str(place): maps for place, maps in enumerate(stored)} if whole else {}


def _sampled(colours: str | Colormap) -> list[Colour]:
    shown = colormaps[colours] if isinstance(colours, str) else colours
    sampled = shown(np.linspace(0, 1, SAMPLES), bytes=True)
    return [(int(red), int(green), int(blue), 255) for red, green, blue, _ in sampled]


def _masks(
    layout: Layout, dataset: Dataset, listed: ListedCase, store: Store, repeat: int
) -> Iterator[Layer]:
    subset = listed.subset
    if subset is None:
        return
    for name, colour in method_colours(dataset).items():
        training = repeat_name(name, shown_repeat(dataset, name, repeat))
        if _is_listed(layout, training, subset, listed.case):
            mask = partial(_predicted, layout, training, subset, listed.case, store)
            yield _mask("mask", training, colour, mask)


def _is_listed(layout: Layout, training: str, subset: int, case: str) -> bool:
    """Whether there should be a mask, also where a damaged manifest does not say so."""
    if not parts_of(layout.masks(training, subset)):
        return False
    try:
        return has_mask(layout, training, subset, case)
    except PipelineError:
        return True


def _predicted(layout: Layout, training: str, subset: int, case: str, store: Store) -> Array:
    return viewed_volume(read_mask(layout, training, subset, case, store), store)


def _mask(
    kind: Literal["reference", "mask"], title: str, colour: str, read: Callable[[], Array]
) -> Layer:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return Layer(kind, title, [NOTHING, (red, green, blue, 255)], 0, 1, read)
