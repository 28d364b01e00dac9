"""`grcsf store export`: a case's image and residual maps as NIfTI, for any viewer to overlay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from grcsf.resampling import source_slices
from pipeline.errors import PipelineError
from pipeline.settings import Dataset, GradCam, Residuals
from pipeline.settings.instances import residual_instance
from pipeline.storage.files import make_output
from pipeline.storage.images.geometry import Geometry, is_tilted
from pipeline.storage.images.source_grid import to_source_grid
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import source_geometry, store_geometry
from pipeline.storage.roles import ingested_store, subset_that_tests
from pipeline.storage.zarr_store import open_store, read_array


def export_case(
    layout: Layout, dataset: Dataset, case: str, names: Sequence[str], output: Path
) -> list[Path]:
    """Write a case's image and residual maps in the image's own geometry, and return the files.

    `CASE-image.nii.gz` is in the source's units, `CASE-SET-MAP.nii.gz` of each map float32 in
    [0, 1], or [−1, 1] if signed. Without `names` of residual sets, all that the case has are
    written.

    Raises:
        PipelineError: the case or its residuals are missing, damaged, or of other settings.
    """
    store = ingested_store(layout, case)
    chosen = list(names) or [
        name for name in dataset.residuals if _store(layout, dataset, name, case).exists()
    ]
    if not chosen:
        raise PipelineError(f"case {case}: has no residual maps yet; run residual-maps first")
    make_output(output)
    geometry, source = store_geometry(store), source_geometry(store)
    if is_tilted(source):  # no NIfTI file is; image and maps still lie on one another
        source = geometry
    written = [output / f"{case}-image.nii.gz"]
    image = to_source_grid(read_array(store, "image"), source, geometry)
    write_volume(written[0], image, source)
    for name in chosen:
        path = _store(layout, dataset, name, case)
        for title, maps in _maps(path, f"residuals.{name}", dataset.residuals[name], geometry):
            ending = re.sub(r"[^A-Za-z0-9]+", "-", title.removeprefix("Residual, ")).strip("-")
            written.append(output / f"{case}-{name}-{ending}.nii.gz")
            slices = torch.from_numpy(maps.astype(np.float32)).unsqueeze(1)  # (z, 1, h, w)
            restored = source_slices(slices, geometry.shape[1:])[:, 0].numpy()
            write_volume(written[-1], to_source_grid(restored, source, geometry), source)
    return written


def _store(layout: Layout, dataset: Dataset, name: str, case: str) -> Path:
    """The maps that the network which tests a case sees; of other cases those of the first fold."""
    first = subset_that_tests(layout, case) or dataset.subsets_with(name)[0]
    return layout.residual_store(residual_instance(dataset, name, first), case)


def _maps(
    path: Path, key: str, settings: Residuals | GradCam, geometry: Geometry
) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
    """Title and values (z, h, w) of each map of a residual store."""
    store = open_store(path)
    made_with = store.attrs.get("residuals")
    if made_with is not None and made_with != settings.model_dump(mode="json"):
        raise PipelineError(
            f"store {path}: made with other settings than {key} has now; run residual-maps again"
        )
    maps = read_array(store, "residual")  # (R, z, h, w)
    titles = settings.titles
    if len(maps) != len(titles) or maps.shape[1] != geometry.shape[0]:
        raise PipelineError(
            f"store {path}: found {len(maps)} maps of {maps.shape[1]} slices, expected "
            f"{len(titles)} of {geometry.shape[0]}; run residual-maps again"
        )
    return zip(titles, maps, strict=True)
