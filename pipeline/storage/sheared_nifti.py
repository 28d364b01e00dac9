"""NIfTI files with a sheared sform, which ITK refuses, or passes over for their qform."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import file_fault
from pipeline.storage.geometry import RIGHT_ANGLE, Geometry, cosines
from pipeline.storage.image_headers import NIFTI, nifti_content

DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
MM = {1: 1000.0, 3: 0.001}  # NIfTI's codes of metre and micrometre
TO_LPS = np.array([-1.0, -1.0, 1.0])  # NIfTI's axes are right, anterior, superior


def sheared_grid(path: Path) -> Geometry | None:
    """The grid that the sform of a NIfTI file gives, if it is not perpendicular; otherwise None.

    Raises:
        PipelineError: there is no readable header, or the image is not 3D.
    """
    if not path.name.lower().endswith(NIFTI):
        return None
    header, head = nifti_content(path)
    (code,) = struct.unpack_from(header.order + "h", head, 254)
    rows = np.array(struct.unpack_from(header.order + "12f", head, 280)).reshape(3, 4)
    spacing = np.linalg.norm(rows[:, :3], axis=0)
    if code <= 0 or not np.isfinite(rows).all() or not spacing.all():
        return None
    scale = MM.get(head[123] & 7, 1.0)
    axes = TO_LPS[:, None] * rows[:, :3] / spacing
    geometry = Geometry(
        (*header.sizes[2::-1],),  # type: ignore[arg-type]
        tuple((spacing * scale)[::-1].tolist()),
        tuple((TO_LPS * rows[:, 3] * scale)[::-1].tolist()),
        tuple(axes[::-1, ::-1].ravel().tolist()),
    )
    if max(cosines(geometry)) <= RIGHT_ANGLE:
        return None
    if len(header.sizes) < 3 or np.prod(header.sizes[3:]) > 1:
        fault = f"a sheared image of the size {' × '.join(map(str, header.sizes))}"
        raise file_fault(path, fault, "one 3D image", "split it")
    return geometry


def voxels(path: Path) -> npt.NDArray[Any]:
    """The values (z, y, x) of a whole 3D NIfTI file, with its slope and intercept applied.

    Raises:
        PipelineError: the file is damaged, or of a type that ITK does not read either.
    """
    header, content = nifti_content(path, size=-1)
    if header.code not in DTYPES:
        fault = f"the NIfTI data type {header.code}"
        raise file_fault(path, fault, "whole or real numbers", "save it as one of these")
    shape = header.sizes[2::-1]
    dtype = np.dtype(header.order + DTYPES[header.code])
    stored = np.frombuffer(content, dtype, int(np.prod(shape)), header.offset).reshape(shape)
    slope, intercept = struct.unpack_from(header.order + "2f", content, 112)
    if np.isfinite(slope) and slope and (slope, intercept) != (1.0, 0.0):
        return (stored * slope + intercept).astype(np.float32)
    return stored.astype(dtype.newbyteorder("="))
