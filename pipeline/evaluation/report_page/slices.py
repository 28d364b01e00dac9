"""A case's slices for its figure: WebP pictures of image and maps, and outlines of the masks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image

from pipeline.evaluation.case_view import CaseView, CaseVolumes, view_slice
from pipeline.evaluation.pages import embedded
from pipeline.evaluation.pictures import Window, body_window, close_up, map_style
from pipeline.evaluation.report_page.outlines import outline
from pipeline.storage.masks import Mask

QUALITY = 80  # of WebP: its faults are smaller than a pixel's noise
METHOD = 2  # of 6: a tenth more bytes than the slowest, in a third of its time


@dataclass(frozen=True)
class ShownSlice:
    """What a case's figure shows of one slice; pictures are WebP in base64."""

    number: int  # from 1
    image: str
    maps: list[str]
    near: Window | None  # mm: the close-up; None where nothing is marked
    reference: str | None  # path in pixels; None without a reference
    predictions: dict[str, str]  # experiment → path in pixels, "" where it has nothing here


@dataclass(frozen=True)
class ShownCase:
    """A case's slices with lesion or prediction, and what they have in common."""

    case: str
    slices: list[ShownSlice]
    first: int  # the place in `slices` of the slice that is shown first
    of: int  # slices of the case
    titles: tuple[str, ...]  # of the maps
    signed: bool  # whether they are
    body: Window  # mm: the part that is no air, of all its slices
    size_mm: tuple[float, float]  # height and width of a slice
    pixel_mm: tuple[float, float]  # height and width of a pixel
    edges: tuple[str, str, str, str]  # the patient's sides at left, right, top and bottom


def shown_case(volumes: CaseVolumes) -> ShownCase:
    """Every slice of a case with lesion or prediction; without any, the middle one.

    Raises:
        PipelineError: a store is damaged.
    """
    known = volumes.label is not None and bool(volumes.label.any())
    lesion = volumes.orientation.plane(np.asarray(volumes.target.any(axis=0) & known))
    slices, bodies, planes = [], [], []
    for z in volumes.marked:
        view = view_slice(volumes, z)
        slices.append(_slice(view, lesion))
        bodies.append(body_window(view.image, view.pixel_mm))
        planes.append({title: plane.astype(np.float16) for title, plane in view.residuals.items()})
    for shown, maps in zip(slices, _coloured(planes, signed=volumes.signed), strict=True):
        shown.maps.extend(maps)
    rows, columns = view.image.shape
    left, right, top, bottom = zip(*bodies, strict=True)
    return ShownCase(
        case=volumes.case,
        slices=slices,
        first=volumes.marked.index(volumes.fullest),
        of=len(volumes.target),
        titles=tuple(planes[0]),
        signed=volumes.signed,
        body=(min(left), max(right), min(top), max(bottom)),
        size_mm=(rows * view.pixel_mm[0], columns * view.pixel_mm[1]),
        pixel_mm=view.pixel_mm,
        edges=view.edges,
    )


def _slice(view: CaseView, lesion: Mask) -> ShownSlice:
    """A slice without its maps; `lesion`: the pixels of the case's largest lesion in any slice."""
    masks = [*view.predictions.values(), *([] if view.reference is None else [view.reference])]
    # through a lesion the close-up stays where it is; elsewhere it shows all that is marked
    through = bool(lesion.any() and view.target.any())
    marked = lesion if through else np.any([view.target, *masks], axis=0)
    grey = np.round(np.clip(view.image, 0, 1) * 255).astype(np.uint8)
    return ShownSlice(
        number=view.z + 1,
        image=_webp(grey),
        maps=[],
        near=close_up(marked, view.pixel_mm) if marked.any() else None,
        reference=None if view.reference is None else outline(view.reference),
        predictions={name: outline(mask) for name, mask in view.predictions.items()},
    )


def _coloured(
    planes: Sequence[Mapping[str, npt.NDArray[np.float16]]], *, signed: bool
) -> list[list[str]]:
    """The maps of every slice in colours that are the same for all maps of the case."""
    volumes = {title: np.stack([slice_[title] for slice_ in planes]) for title in planes[0]}
    style: dict[str, Any] = map_style(volumes, signed=signed)
    colours = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    return [
        [_webp(colours.to_rgba(plane, bytes=True)[..., :3]) for plane in slice_.values()]
        for slice_ in planes
    ]


def _webp(pixels: npt.NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(content, format="WEBP", quality=QUALITY, method=METHOD)
    return embedded(content.getvalue())
