"""A tiny ingested data set, made from arrays alone."""

import numpy as np
import pytest

from pipeline.layout import Layout
from pipeline.settings import QUANTILES, Experiment, Mae, Residuals, Resources, Slices, Training
from pipeline.stores import read_json, store_attributes, write_json, write_store

ROLES = {"a": "train", "b": "train", "c": "validation", "d": "test", "e": "unlabelled"}
DIRECTION = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8)


def write_case(layout, name, *, seed, shape=(6, 30, 26), labelled=True):
    """A noisy disc with a dark square lesion in slices 2 and 3; slice 0 is empty."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    body = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < (min(shape[1:]) / 2.2) ** 2
    image = np.where(body, 100 + random.normal(0, 3, shape), 0)
    label = (np.abs(y - 14) < 4) & (np.abs(x - 11) < 3) & (z > 1) & (z < 4)
    image[label] = 60
    image[0] = 0
    image = np.rint(image).astype(np.int16)
    arrays = {"image": image}
    if labelled:
        arrays["label"] = label.astype(np.uint8)
    attributes = {
        "case": name,
        "spacing": (3.0, 0.8, 0.8),
        "origin": (1.0, -2.0, 5.0),
        "direction": DIRECTION,
        "shape": list(shape),
        "slices": shape[0],
        "labelled": labelled,
        "group": "",
        "role": "" if labelled else "unlabelled",
        "slices_with_lesion": [2, 3] if labelled else [],
        "empty_slices": [0],
        "quantiles": [float(q) for q in np.quantile(image[image > 0], QUANTILES)],
        "source_suffix": ".nii.gz",
        "fingerprint": name,
        "notes": [],
    }
    write_store(layout.case_store(name), arrays, attributes)
    return store_attributes(layout.case_store(name))


@pytest.fixture
def ingested(tmp_path):
    """Five cases with case stores, manifest and split."""
    layout = Layout(tmp_path / "results", "discs")
    cases = {
        name: write_case(layout, name, seed=index, labelled=role != "unlabelled")
        for index, (name, role) in enumerate(ROLES.items())
    }
    write_json(layout.cases, {"cases": cases, "set_aside": {}, "outputs": []})
    subset = {role: [name for name in ROLES if ROLES[name] == role] for role in ROLES.values()}
    unlabelled = subset.pop("unlabelled")
    write_json(layout.split, {"subsets": {"1": subset}, "unlabelled": unlabelled, "fractions": {}})
    return layout


@pytest.fixture
def slices():
    return Slices(size=(32, 32), window=(0, 150))


@pytest.fixture
def mae():
    return Mae(
        preset="tiny", image_size=32, patch_size=8, epochs=2, batch_size=4, learning_rate=1e-3
    )


@pytest.fixture
def residuals():
    maps = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
    return Residuals.model_validate({"preset": "fast", "maps": maps, "precision": "fp32"})


@pytest.fixture
def experiment():
    training = Training(epochs=2, batch_size=4, warmup_epochs=1)
    return Experiment(
        model="grcsf", residuals="mrm", width=4, patch_sizes=(4, 4, 8), training=training
    )


@pytest.fixture
def resources():
    return Resources(threads=1, slices_per_batch=3)


@pytest.fixture
def manifest_of():
    """Reads a manifest."""
    return read_json
