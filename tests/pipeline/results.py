"""Results trees that tests start from: copies of made ones, and ones of given arrays."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.settings import QUANTILES, Experiment, Mae, Residuals, Resources, Slices, Training
from pipeline.storage.files import fingerprint, write_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store, read_array, store_attributes, write_store

# turned by 20° about z, in z, y, x order
COS, SIN = 0.9396926207859084, 0.3420201433256687
OBLIQUE = (1.0, 0.0, 0.0, 0.0, COS, SIN, 0.0, -SIN, COS)
SPACING = (3.0, 0.5, 0.7)
ORIGIN = (-12.5, 30.25, -101.0)

# Settings of networks that train in seconds.
SLICES = Slices(size=(32, 32), window=(0, 150))
RESOURCES = Resources(threads=1, slices_per_batch=3)
MAE = Mae(preset="tiny", image_size=32, patch_size=8, epochs=2, batch_size=4, learning_rate=1e-3)
RESIDUALS = Residuals.model_validate(
    {
        "preset": "fast",
        "maps": [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}],
        "precision": "fp32",
    }
)
TRAINING = Training(epochs=2, batch_size=4, warmup_epochs=1)
UNET = Experiment(model="unet", width=2, training=TRAINING)
GRCSF = Experiment(
    model="grcsf", residuals="mrm", width=4, rcu={"patch_sizes": (4, 4, 8)}, training=TRAINING
)


def write_case(
    layout: Layout, case: str, image: np.ndarray, label: np.ndarray | None, **attributes: Any
) -> dict[str, Any]:
    """Write the store of a case, with these attributes beside or instead of plain ones; all."""
    plain = {
        "case": case,
        "spacing": SPACING,
        "origin": ORIGIN,
        "direction": OBLIQUE,
        "shape": list(image.shape),
        "slices": len(image),
        "labelled": label is not None,
        "group": "",
        "role": "",
        "quantiles": [float(value) for value in np.quantile(image, QUANTILES)],
        "source_suffix": ".nii.gz",
        "fingerprint": fingerprint({"case": case}),
        "notes": [],
    }
    arrays = {"image": image} if label is None else {"image": image, "label": label}
    write_store(layout.case_store(case), arrays, {**plain, **attributes})
    stored = store_attributes(layout.case_store(case))
    assert stored is not None
    return stored


def rewrite_attributes(path: Path, **changed: Any) -> None:
    """Write a store again whose attributes are others."""
    store = open_store(path)
    arrays = {name: read_array(store, name) for name in store.array_keys()}
    write_store(path, arrays, {**store.attrs.asdict(), **changed})


class ResultsTree:
    """The results of the stages before postprocess, for cases given as arrays."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root, "tiny")
        self.cases: dict[str, dict[str, Any]] = {}
        self.unlabelled: list[str] = []

    def add_case(
        self,
        case: str,
        image: np.ndarray,
        label: np.ndarray | None = None,
        *,
        modality: str = "CT",
        suffix: str = ".nii.gz",
        **attributes: Any,
    ) -> None:
        units = "HU" if modality == "CT" else "as stored"
        attributes |= {"modality": modality, "units": units, "source_suffix": suffix}
        self.cases[case] = write_case(self.layout, case, image, label, dataset="tiny", **attributes)
        if label is None:
            self.unlabelled.append(case)

    def write_split(
        self, tests: Sequence[Sequence[str]], set_aside: Mapping[str, Any] | None = None
    ) -> None:
        write_json(
            self.layout.cases,
            {"cases": self.cases, "set_aside": dict(set_aside or {}), "outputs": []},
        )
        subsets = {
            str(number): {"train": [], "validation": [], "test": list(cases)}
            for number, cases in enumerate(tests, start=1)
        }
        fractions = {number: {"test": 1.0} for number in subsets}
        write_json(
            self.layout.split,
            {"subsets": subsets, "unlabelled": self.unlabelled, "fractions": fractions},
        )

    def add_predictions(
        self, experiment: str, subset: int, probabilities: Mapping[str, np.ndarray]
    ) -> None:
        keys = {}
        for case, probability in probabilities.items():
            keys[case] = fingerprint({"case": case, "sum": float(np.nansum(probability))})
            write_store(
                self.layout.prediction_store(experiment, subset, case),
                {"probability": probability.astype(np.float16)},
                {"case": case, "fingerprint": keys[case]},
            )
        write_json(self.layout.predictions(experiment, subset), {"cases": keys, "outputs": []})

    def add_model(self, experiment: str, subset: int, parameters: int) -> None:
        write_json(self.layout.model(experiment, subset), {"parameters": parameters})


def copy_results(layout: Layout, folder: Path) -> Layout:
    """The same results in a folder of their own, with the same file times."""
    shutil.copytree(layout.root, folder / "results")
    return replace(layout, root=folder / "results")
