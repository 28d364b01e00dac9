"""An uncompressed NIfTI-1 file in memory: a viewer's volume leaves no file behind."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.images.formats.nifti_image import RAS_TO_LPS
from pipeline.storage.images.geometry import Geometry

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768}
CODES |= {"i8": 1024, "u8": 1280}  # kind and bytes of a value → `datatype`
OFFSET = 352  # of the voxels: header and four bytes that say there is no extension
MILLIMETRES = 2
SCANNER = 1  # the sform's rows are positions in the patient; there is no qform beside them


def nifti_bytes(array: npt.NDArray[Any], geometry: Geometry) -> bytes:
    """An array (z, y, x), in its own dtype, on its right-angled grid; bool becomes uint8."""
    values = np.ascontiguousarray(array.astype(np.uint8) if array.dtype == bool else array)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    code = CODES[values.dtype.kind + str(values.dtype.itemsize)]
    spacing = geometry.spacing[::-1]
    steps = geometry.axes[::-1, ::-1] * spacing  # (patient axis, stored axis), x first
    rows = RAS_TO_LPS @ np.column_stack([steps, geometry.origin[::-1]])
    header = bytearray(OFFSET)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *values.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, 8 * values.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, OFFSET, 1, 0)  # then slope and intercept
    struct.pack_into("<B", header, 123, MILLIMETRES)
    struct.pack_into("<2h", header, 252, 0, SCANNER)
    struct.pack_into("<12f", header, 280, *rows.ravel())
    struct.pack_into("<4s", header, 344, b"n+1")
    return b"".join((header, values.reshape(-1).view(np.uint8).data))
