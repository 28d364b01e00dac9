"""Results trees built by hand, so that late stages are tested without training anything."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.layout import Layout
from pipeline.settings import QUANTILES
from pipeline.stores import fingerprint, store_attributes, write_json, write_store

# turned by 20° about z, in z, y, x order
COS, SIN = 0.9396926207859084, 0.3420201433256687
OBLIQUE = (1.0, 0.0, 0.0, 0.0, COS, SIN, 0.0, -SIN, COS)
SPACING = (3.0, 0.5, 0.7)
ORIGIN = (-12.5, 30.25, -101.0)


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
        group: str = "",
        modality: str = "CT",
        suffix: str = ".nii.gz",
        notes: Sequence[str] = (),
    ) -> None:
        arrays = {"image": image} if label is None else {"image": image, "label": label}
        attributes = {
            "case": case,
            "dataset": "tiny",
            "group": group,
            "role": "",
            "modality": modality,
            "units": "HU" if modality == "CT" else "as stored",
            "spacing": SPACING,
            "origin": ORIGIN,
            "direction": OBLIQUE,
            "shape": list(image.shape),
            "slices": len(image),
            "labelled": label is not None,
            "quantiles": [float(value) for value in np.quantile(image, QUANTILES)],
            "source_suffix": suffix,
            "notes": list(notes),
            "fingerprint": fingerprint({"case": case}),
        }
        write_store(self.layout.case_store(case), arrays, attributes)
        stored = store_attributes(self.layout.case_store(case))
        assert stored is not None
        self.cases[case] = stored
        if label is None:
            self.unlabelled.append(case)

    def write_split(
        self, tests: Sequence[Sequence[str]], set_aside: Mapping[str, Any] = {}
    ) -> None:
        write_json(
            self.layout.cases, {"cases": self.cases, "set_aside": dict(set_aside), "outputs": []}
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


@pytest.fixture
def results_tree(tmp_path: Path) -> ResultsTree:
    return ResultsTree(tmp_path / "results")


@pytest.fixture
def box() -> Callable[..., np.ndarray]:
    """Masks of one box: box(shape, (z0, z1), (y0, y1), (x0, x1))."""

    def filled(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[tuple(slice(*one) for one in ranges)] = True
        return mask

    return filled
