"""An uncompressed NIfTI file in memory: a viewer's volume leaves no file behind."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from pipeline.storage.images.formats.nifti_image import RAS_TO_LPS
from pipeline.storage.images.geometry import Geometry


def nifti_bytes(array: npt.NDArray[Any], geometry: Geometry) -> bytes:
    """An array (z, y, x), in its own dtype, on its right-angled grid; bool becomes uint8."""
    values = array.astype(np.uint8) if array.dtype == bool else array
    steps = geometry.axes[::-1, ::-1] * geometry.spacing[::-1]  # (patient axis, stored axis)
    affine = np.eye(4)
    affine[:3] = RAS_TO_LPS @ np.column_stack([steps, geometry.origin[::-1]])
    image = nibabel.Nifti1Image(values.T, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())
