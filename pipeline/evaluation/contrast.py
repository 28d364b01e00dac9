"""How well residual maps show the lesions of test cases: what to look at first in a new MAE."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from grcsf.contrast import lesion_contrast
from grcsf.metrics import mean_defined
from pipeline.evaluation.tables import TextTable
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout
from pipeline.storage.roles import labelled_test_cases
from pipeline.storage.zarr_store import open_store, read_array, store_attributes

Plane = npt.NDArray[np.float32]
IMAGE = "the image itself"


def contrast_table(layout: Layout, dataset: Dataset) -> TextTable | None:
    """Mean over test cases of each map's `lesion_contrast`; None where no experiment has maps.

    Below each set's maps stands the image itself: a lesion that is brighter or darker than what
    surrounds it is told from it without any map. A case without lesion at the maps' size, or whose
    residual store is no longer there, is left out.

    Raises:
        PipelineError: a store is damaged.
    """
    used = [one.residuals for one in dataset.experiments.values() if one.residuals]
    table = TextTable(["Residual set", "Map", "Cases", "Lesion against surroundings, AUC"])
    for name in dict.fromkeys(used):
        titles = [*dataset.residuals[name].titles, IMAGE]
        found: list[list[float]] = [[] for _ in titles]
        for case in _mapped_cases(layout, dataset, name):
            shown = _slices_with_lesion(layout, name, case)
            if shown is None:
                continue
            lesion, maps = shown
            for values, one in zip(found, maps, strict=True):
                values.append(lesion_contrast(one, lesion))
        for title, values in zip(titles, found, strict=True):
            mean, undefined = mean_defined(values)
            auc = "–" if undefined == len(values) else f"{mean:.3f}"
            table.rows.append([name, title, str(len(values) - undefined), auc])
            table.numbers.append({"residuals": name, "map": title, "auc": mean})
    return table if table.rows else None


def _mapped_cases(layout: Layout, dataset: Dataset, name: str) -> Iterator[str]:
    for case in dict.fromkeys(
        case for _, case in labelled_test_cases(layout, dataset.subsets_with(name))
    ):
        if store_attributes(layout.residual_store(name, case)) is not None:
            yield case


def _slices_with_lesion(
    layout: Layout, name: str, case: str
) -> tuple[npt.NDArray[np.bool_], Plane] | None:
    """Slices with lesion, if any: (z, h, w) bool, 1 = lesion; maps and image (R + 1, z, h, w)."""
    ingested = open_store(layout.case_store(case))
    label = read_array(ingested, "label") > 0
    planes = np.flatnonzero(label.any(axis=(1, 2)))
    if not planes.size:
        return None
    store = open_store(layout.residual_store(name, case))
    maps = np.stack([read_array(store, "residual", (slice(None), z)) for z in planes], axis=1)
    rows, columns = (
        ((np.arange(here) + 0.5) * there / here).astype(int)
        for here, there in zip(maps.shape[2:], label.shape[1:], strict=True)
    )
    # each of the map's pixels takes what the source's pixel has that its centre lies in
    lesion = label[planes][:, rows][:, :, columns]
    image = read_array(ingested, "image")[planes][:, rows][:, :, columns]
    return lesion, np.concatenate([maps, image[None]]).astype(np.float32)
