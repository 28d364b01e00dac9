"""How well residual maps show the lesions of test cases: the first figure to check of an MAE."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from grcsf.contrast import lesion_contrast
from grcsf.metrics import mean_defined
from pipeline.evaluation.tables import TextTable
from pipeline.settings import Dataset
from pipeline.settings.instances import residual_instance
from pipeline.storage.layout import Layout
from pipeline.storage.roles import labelled_test_cases
from pipeline.storage.zarr_store import open_store, read_array, store_attributes

Plane = npt.NDArray[np.float32]
IMAGE = "the image itself"
SIGN = (
    "Maps of {name} keep the sign, so they tell as much below 0.5 as above it: where a figure "
    "is below, the one in brackets says how often a lesion pixel is the darker one, against what "
    "was foreseen."
)


def contrast_table(layout: Layout, dataset: Dataset) -> TextTable | None:
    """Mean over test cases of each map's `lesion_contrast`; None if no experiment has maps.

    Signed maps are taken as they are; where lesions are mostly darker than foreseen, the area of
    −(I − R), which is 1 minus it, stands beside it. No case chooses its own direction.

    The image itself follows each set's maps, because a lesion that is brighter or darker than its
    surroundings shows without any map. A case without lesion at the maps' size, or without residual
    store, is left out.

    Raises:
        PipelineError: a store is damaged.
    """
    sets = [experiment.residuals for experiment in dataset.experiments.values()]
    table = TextTable(["Residual set", "Map", "Cases", "Lesion against surroundings, AUC"])
    for name in dict.fromkeys(filter(None, sets)):
        signed, titles = dataset.residuals[name].signed, [*dataset.residuals[name].titles, IMAGE]
        table.notes += [SIGN.format(name=name)] if signed else []
        contrasts: list[list[float]] = [[] for _ in titles]
        tested = labelled_test_cases(layout, dataset.subsets_with(name))
        for case, subset in {case: subset for subset, case in tested}.items():
            maps_of = residual_instance(dataset, name, subset)
            mapped = store_attributes(layout.residual_store(maps_of, case)) is not None
            shown = _slices_with_lesion(layout, maps_of, case) if mapped else None
            if shown is None:
                continue
            lesion, maps = shown
            for values, plane in zip(contrasts, maps, strict=True):
                values.append(lesion_contrast(plane, lesion))
        for title, values in zip(titles, contrasts, strict=True):
            mean, undefined = mean_defined(values)
            auc = "–" if undefined == len(values) else f"{mean:.3f}"
            if signed and title != IMAGE and mean < 0.5:
                auc += f" (darker: {1 - mean:.3f})"
            table.rows.append([name, title, str(len(values) - undefined), auc])
            table.numbers.append({"residuals": name, "map": title, "auc": mean})
    return table if table.rows else None


def _slices_with_lesion(
    layout: Layout, name: str, case: str
) -> tuple[npt.NDArray[np.bool_], Plane] | None:
    """The slices with lesion: (z, h, w) bool, 1 = lesion, and maps and image (R + 1, z, h, w)."""
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
    # a pixel of the map takes the value of the source's pixel around its centre
    lesion = label[planes][:, rows][:, :, columns]
    image = read_array(ingested, "image")[planes][:, rows][:, :, columns]
    return lesion, np.concatenate([maps, image[None]]).astype(np.float32)
