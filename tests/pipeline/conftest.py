"""A tiny ingested data set, and results trees of later stages, made from arrays alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.settings import QUANTILES
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from tests.pipeline.results import (
    GRCSF,
    MAE,
    RESIDUALS,
    RESOURCES,
    SLICES,
    ResultsTree,
    copy_results,
    write_case,
)

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
        spacing=(3.0, 0.8, 0.8),
        role="" if labelled else "unlabelled",
        slices_with_lesion=[2, 3] if labelled else [],
        empty_slices=[0],
        quantiles=[float(q) for q in np.quantile(image[image > 0], QUANTILES)],
    )


def _fixed(value):
    return pytest.fixture(scope="session")(lambda: value)


slices, mae, residuals = map(_fixed, (SLICES, MAE, RESIDUALS))
experiment, resources = map(_fixed, (GRCSF, RESOURCES))


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
def trained_once(ingested_once, tmp_path_factory):
    """What `with_mae` copies."""
    from pipeline.train_mae import train_mae  # takes seconds to import; most tests do without

    layout = copy_results(ingested_once, tmp_path_factory.mktemp("trained"))
    train_mae(layout, "shared", MAE, SLICES, 5, RESOURCES)
    return layout


@pytest.fixture(scope="session")
def residuals_once(trained_once, tmp_path_factory):
    """What `with_residuals` copies."""
    from pipeline.residual_maps import residual_maps

    layout = copy_results(trained_once, tmp_path_factory.mktemp("residuals"))
    residual_maps(layout, "mrm", "1of1", RESIDUALS, {"shared": MAE}, (1,), SLICES, 5, RESOURCES)
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
