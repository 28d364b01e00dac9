"""Writes MetaImage, NRRD and NIfTI files of tiny images by hand, with any header."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "DimSize": "7 6 5",
    "ElementSpacing": "0.5 0.7 3",
    "ElementType": "MET_SHORT",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "7 6 5",
    "encoding": "raw",
    "endian": "little",
    "space": "left-posterior-superior",
    "space directions": "(0.5,0,0) (0,0.7,0) (0,0,3)",
    "space origin": "(0,0,0)",
}
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def meta_image(path: Path, data: bytes, target: str = "LOCAL", **changes: str | None) -> Path:
    """A MetaImage file; None as a change leaves its line out, a key of text replaces it."""
    fields = {key: value for key, value in (META | changes).items() if value is not None}
    lines = [f"{key} = {value}\n" for key, value in fields.items()]
    path.write_bytes("".join([*lines, f"ElementDataFile = {target}\n"]).encode() + data)
    return path


def nrrd(path: Path, data: bytes, changes: dict[str, str | None]) -> Path:
    """A NRRD file; None as a change leaves its line out."""
    fields = {key: value for key, value in (NRRD | changes).items() if value is not None}
    lines = [f"{key}: {value}\n" for key, value in fields.items()]
    path.write_bytes("".join(["NRRD0004\n", *lines, "\n"]).encode() + data)
    return path


def nifti(
    path: Path,
    array: np.ndarray,
    sform: np.ndarray | None = AFFINE,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    **fields: Any,
) -> Path:
    """A NIfTI file of `array` (z, y, x), with codes of (qform, sform), then any other fields."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    if qform is not None:
        header.set_qform(qform, codes[0])
    if sform is not None:
        header.set_sform(sform, codes[1])
        header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(4) + array.tobytes())
    return path
