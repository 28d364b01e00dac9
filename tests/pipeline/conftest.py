"""A tiny ingested data set, and results trees of later stages, made from arrays alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.settings import QUANTILES, Experiment, Mae, Residuals, Resources, Slices, Training
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import ResultsTree, copy_results, write_case

ROLES = {"a": "train", "b": "train", "c": "validation", "d": "test", "e": "unlabelled"}

# The first backward pass settles for the whole process whether torch's gradients have threads of
# their own, which no fork may have. After a `FakeTensorMode` they would, also without a GPU.
torch.ones(1, requires_grad=True).backward()
# Sums are in the same order every time, and several trainings fit beside one another.
torch.set_num_threads(1)


def write_disc(layout, name, *, seed, labelled):
    """A noisy disc with a dark square lesion in slices 2 and 3; slice 0 is empty."""
    random, shape = np.random.default_rng(seed), (6, 30, 26)
    z, y, x = np.indices(shape)
    body = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < (min(shape[1:]) / 2.2) ** 2
    image = np.where(body, 100 + random.normal(0, 3, shape), 0)
    label = (np.abs(y - 14) < 4) & (np.abs(x - 11) < 3) & (z > 1) & (z < 4)
    image[label] = 60
    image[0] = 0
    image = np.rint(image).astype(np.int16)
    return write_case(
        layout,
        name,
        image,
        label.astype(np.uint8) if labelled else None,
        role="" if labelled else "unlabelled",
        slices_with_lesion=[2, 3] if labelled else [],
        empty_slices=[0],
        quantiles=[float(q) for q in np.quantile(image[image > 0], QUANTILES)],
    )


@pytest.fixture
def rewrite_attributes():
    """Writes a store again whose attributes are others."""

    def rewrite(path, **changed):
        store = open_store(path)
        arrays = {name: read_array(store, name) for name in store.array_keys()}
        write_store(path, arrays, {**store.attrs.asdict(), **changed})

    return rewrite


@pytest.fixture(scope="session")
def slices():
    return Slices(size=(32, 32), window=(0, 150))


@pytest.fixture(scope="session")
def mae():
    return Mae(
        preset="tiny", image_size=32, patch_size=8, epochs=2, batch_size=4, learning_rate=1e-3
    )


@pytest.fixture(scope="session")
def residuals():
    maps = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
    return Residuals.model_validate({"preset": "fast", "maps": maps, "precision": "fp32"})


@pytest.fixture(scope="session")
def experiment():
    training = Training(epochs=2, batch_size=4, warmup_epochs=1)
    return Experiment(
        model="grcsf", residuals="mrm", width=4, rcu={"patch_sizes": (4, 4, 8)}, training=training
    )


@pytest.fixture(scope="session")
def resources():
    return Resources(threads=1, slices_per_batch=3)


@pytest.fixture(scope="session")
def ingested_once(tmp_path_factory):
    """What `ingested` copies."""
    layout = Layout(tmp_path_factory.mktemp("ingested") / "results", "discs")
    cases = {
        name: write_disc(layout, name, seed=index, labelled=role != "unlabelled")
        for index, (name, role) in enumerate(ROLES.items())
    }
    write_json(layout.cases, {"cases": cases, "set_aside": {}, "outputs": []})
    subset = {role: [name for name in ROLES if ROLES[name] == role] for role in ROLES.values()}
    unlabelled = subset.pop("unlabelled")
    write_json(layout.split, {"subsets": {"1": subset}, "unlabelled": unlabelled, "fractions": {}})
    return layout


@pytest.fixture(scope="session")
def trained_once(ingested_once, tmp_path_factory, mae, slices, resources):
    """What `with_mae` copies."""
    from pipeline.train_mae import train_mae  # takes seconds to import; most tests do without

    layout = copy_results(ingested_once, tmp_path_factory.mktemp("trained"))
    train_mae(layout, "shared", mae, slices, 5, resources)
    return layout


@pytest.fixture(scope="session")
def residuals_once(trained_once, tmp_path_factory, mae, residuals, slices, resources):
    """What `with_residuals` copies."""
    from pipeline.residual_maps import residual_maps

    layout = copy_results(trained_once, tmp_path_factory.mktemp("residuals"))
    residual_maps(layout, "mrm", "1of1", residuals, {"shared": mae}, (1,), slices, 5, resources)
    return layout


@pytest.fixture
def ingested(ingested_once, tmp_path):
    """Five cases with case stores, manifest and split."""
    return copy_results(ingested_once, tmp_path)


@pytest.fixture
def with_mae(trained_once, tmp_path):
    """`ingested` with a trained MAE."""
    return copy_results(trained_once, tmp_path)


@pytest.fixture
def with_residuals(residuals_once, tmp_path):
    """`ingested` with a trained MAE and its residual stores."""
    return copy_results(residuals_once, tmp_path)


@pytest.fixture(scope="session")
def results_tree_at() -> type[ResultsTree]:
    return ResultsTree


@pytest.fixture
def results_tree(tmp_path: Path) -> ResultsTree:
    return ResultsTree(tmp_path / "results")


@pytest.fixture(scope="session")
def box() -> Callable[..., np.ndarray]:
    """Masks of one box: box(shape, (z0, z1), (y0, y1), (x0, x1))."""

    def filled(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[tuple(slice(*ends) for ends in ranges)] = True
        return mask

    return filled
