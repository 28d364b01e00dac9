"""A case's image, reference and residual maps as volumes on its source's grid, for viewers.

No NIfTI file is tilted, so all that belongs to a tilted source lies on the working grid instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.settings import GradCam, Residuals
from pipeline.storage.images.geometry import Geometry, is_tilted
from pipeline.storage.images.source_grid import to_source_grid
from pipeline.storage.masks import source_geometry, store_geometry
from pipeline.storage.zarr_store import Store, open_store, read_array, read_part, stored_array

Array = npt.NDArray[Any]  # (z, y, x)


def viewed_geometry(store: Store) -> Geometry:
    """The grid of a case's volumes: its source's, or the working grid of a tilted source."""
    source = source_geometry(store)
    return store_geometry(store) if is_tilted(source) else source


def viewed_volume(array: Array, store: Store) -> Array:
    """An array of a case's working grid on `viewed_geometry`."""
    return to_source_grid(array, viewed_geometry(store), store_geometry(store))


def stored_volume(store: Store, name: str) -> Array:
    """A case's `image`, in its own units, or `label`, 0 = background, on `viewed_geometry`.

    Raises:
        PipelineError: the store is damaged.
    """
    return viewed_volume(read_array(store, name), store)


def residual_volume(
    path: Path, key: str, settings: Residuals | GradCam, place: int, store: Store
) -> npt.NDArray[np.float32]:
    """One map of a residual store, the `place`-th of `settings.titles`, on `viewed_geometry`.

    It is in [0, 1], or [−1, 1] if signed. `key` names the settings in errors.

    Raises:
        PipelineError: the maps are missing, damaged, or of other settings or another case, or
            hold what is no number, which viewers show as 0: nothing conspicuous.
    """
    import torch  # here: without maps nothing needs it, and it takes seconds

    from grcsf.resampling import source_slices

    maps, geometry = open_store(path), store_geometry(store)
    made_with = maps.attrs.get("residuals")
    if made_with is not None and made_with != settings.model_dump(mode="json"):
        raise PipelineError(
            f"store {path}: made with other settings than {key} has now; run residual-maps again"
        )
    stored, titles = stored_array(maps, "residual"), settings.titles  # (R, z, h, w)
    if stored.shape[0] != len(titles) or stored.shape[1] != geometry.shape[0]:
        raise PipelineError(
            f"store {path}: found {stored.shape[0]} maps of {stored.shape[1]} slices, expected "
            f"{len(titles)} of {geometry.shape[0]}; run residual-maps again"
        )
    values = read_part(stored, place)
    if not np.isfinite(values).all():
        fault = f"store {path}: residual holds values that are no finite numbers"
        raise PipelineError(f"{fault}; delete it and run residual-maps again")
    slices = torch.from_numpy(values.astype(np.float32)).unsqueeze(1)
    return viewed_volume(source_slices(slices, geometry.shape[1:])[:, 0].numpy(), store)
