"""The grid of an image and its place in the patient, and the check that every grid passes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import file_fault

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """The grid of an image, and its place in the patient; all axes in z, y, x order."""

    shape: tuple[int, int, int]  # voxels
    spacing: tuple[float, float, float]  # mm between voxels
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # the first voxel's ITK (LPS) position, mm
    direction: tuple[float, ...] = IDENTITY  # 3×3, row-major: ITK's direction cosines


def check_grid(path: Path, geometry: Geometry) -> None:
    """Refuse a grid that no image can have; every reader's grid passes here.

    Raises:
        PipelineError: a spacing is not finite or not above 0.
    """
    if not all(np.isfinite(step) and step > 0 for step in geometry.spacing):
        fault = f"spacing ({', '.join(f'{step:g}' for step in geometry.spacing)}) mm (z, y, x)"
        raise file_fault(path, fault, "all above 0", "correct the header")
