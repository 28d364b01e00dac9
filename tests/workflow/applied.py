"""A bundle of tiny networks that nobody trained, and scans to which it is applied."""

from pathlib import Path

import numpy as np
from untrained_bundle import write_bundle

__all__ = ["write_bundle", "write_scan", "write_series"]

SHAPE, SPACING = (7, 36, 32), (3.0, 0.8, 0.8)
SIDEWAYS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def voxels(seed: int) -> np.ndarray:
    """HU (z, y, x)."""
    return np.random.default_rng(seed).normal(-200, 200, SHAPE).astype(np.int16)


def write_scan(path: Path, seed: int) -> Path:
    from pipeline.storage.images.geometry import Geometry
    from pipeline.storage.images.volumes import write_volume

    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, voxels(seed), Geometry(SHAPE, SPACING, (0.0, 0.0, 0.0), SIDEWAYS))
    return path


def write_series(folder: Path, seed: int, edit=lambda *_: None) -> Path:
    from tests.pipeline.dicom_files import write_slices

    array = voxels(seed)
    lowest = int(array.min())
    positions = [(0, 0, 3.0 * z) for z in range(len(array))]
    stored = (array - lowest).astype(np.uint16)
    write_slices(folder, stored, positions, [(1, lowest)] * len(array), edit=edit)
    return folder
