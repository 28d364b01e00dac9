"""Grids for tests: tilted ones, any, and where their voxels lie in the patient."""

import itertools

import numpy as np
from hypothesis import strategies as st

from pipeline.storage.images.geometry import Geometry


def tilted(
    degrees: float = 20.0, shape=(12, 48, 48), spacing=(3.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)
) -> Geometry:
    """Slices that a gantry tilts about x, while the table moves along z."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Geometry(shape, spacing, origin, (1.0, -sin, 0.0, 0.0, cos, 0.0, 0.0, 0.0, 1.0))


def turned(array: np.ndarray, grid: Geometry) -> tuple[np.ndarray, Geometry]:
    """The same voxels as sagittal slices from left to right, rows from below, columns backwards."""
    x, z, y = grid.axes[:, 2], grid.axes[:, 0], grid.axes[:, 1]
    origin = grid.origin + x * grid.spacing[2] * (grid.shape[2] - 1)
    spacing = (grid.spacing[2], grid.spacing[0], grid.spacing[1])
    sagittal = np.ascontiguousarray(array.transpose(2, 0, 1)[::-1])
    direction = np.stack([-x, z, y], axis=1)
    parts = (spacing, origin.tolist(), direction.ravel().tolist())
    return sagittal, Geometry(sagittal.shape, *map(tuple, parts))


def attributes_of(grid: Geometry) -> dict:
    """A grid as the attributes of a store."""
    return {name: getattr(grid, name) for name in ("shape", "spacing", "origin", "direction")}


def positions(grid: Geometry) -> np.ndarray:
    """The (z, y, x) position of every voxel in mm: (*shape, 3)."""
    steps = grid.axes * grid.spacing
    return np.moveaxis(np.indices(grid.shape), 0, -1) @ steps.T + grid.origin


def indices(grid: Geometry, points: np.ndarray) -> np.ndarray:
    """The (z, y, x) voxel, in fractions, that lies at each position: the inverse of `positions`."""
    return (points - grid.origin) @ np.linalg.inv(grid.axes * grid.spacing).T


NONE = st.just(0.0)


@st.composite
def grids(draw, offsets=NONE) -> Geometry:
    """Small grids of any orientation; `offsets` are pixels from slice to slice along y and x."""
    shape = tuple(draw(st.integers(2, 6)) for _ in range(3))
    spacing = np.array([draw(st.sampled_from([0.5, 0.7, 1.25, 3.0])) for _ in range(3)])
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    turned = np.linalg.qr(np.eye(3) + random.normal(0, 0.1, (3, 3)))[0]
    turned *= np.sign(np.diag(turned))
    order = draw(st.sampled_from(list(itertools.permutations(range(3)))))
    axes = turned[:, order] * [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    steps = axes * spacing
    steps[:, 0] += steps[:, 1] * draw(offsets) + steps[:, 2] * draw(offsets)
    lengths = np.linalg.norm(steps, axis=0)
    origin = random.uniform(-100, 100, 3)
    direction = (steps / lengths).ravel()
    return Geometry(shape, *(tuple(each.tolist()) for each in (lengths, origin, direction)))
