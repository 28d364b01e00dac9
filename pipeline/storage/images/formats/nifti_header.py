"""NIfTI-1 headers: what they say of the grid, checked against themselves.

The sform places the image where there is one, else the qform, else the spacing alone.
"""

from __future__ import annotations

import gzip
import itertools
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pipeline.errors import file_fault
from pipeline.storage.images.formats.image_bytes import CORRECT, FETCH_AGAIN, no_header, opened

HEADER = 352
SLACK = 1 << 20  # bytes after the last voxel, which the format allows
# numpy's type and the values per voxel, by NIfTI's number
TYPES = {2: ("u1", 1), 4: ("i2", 1), 8: ("i4", 1), 16: ("f4", 1), 64: ("f8", 1), 128: ("u1", 3)}
TYPES |= {256: ("i1", 1), 512: ("u2", 1), 768: ("u4", 1), 1024: ("i8", 1), 1280: ("u8", 1)}
TYPES |= {2304: ("u1", 4)}
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # of a unknown unit, metre, mm, micrometre
AGREE = 1e-3  # relative: pixdim against the scales of the sform
APART = 0.1  # voxels by which sform and qform may place a corner differently
SCANNER = 1  # the code of a form that says where in the scanner the patient lay
TURNED_HALF = 1e-7  # of a², below which float32 cannot tell it from 0, as in NIfTI's own library

Affine = tuple[tuple[float, float, float, float], ...]  # 3 rows: voxel (i, j, k, 1) to RAS in mm


@dataclass(frozen=True)
class NiftiHeader:
    """The fields that locate the values, scale them, and place them in the patient."""

    sizes: tuple[int, ...]  # voxels along x, y, z, and volumes if it is 4D
    dtype: str  # numpy's, with the order of bytes
    colours: int  # values of a voxel side by side: 1, or 3 or 4 of a colour
    offset: int  # bytes before the first voxel
    slope: float
    intercept: float
    spacing: tuple[float, float, float]  # mm along x, y, z
    affine: Affine | None  # None: neither sform nor qform

    @property
    def volume_bytes(self) -> int:
        """Bytes of one 3D volume."""
        return math.prod(self.sizes[:3]) * self.colours * int(self.dtype[2:])

    @property
    def length(self) -> int:
        """The length of the whole file in bytes, uncompressed."""
        return self.offset + math.prod(self.sizes[3:]) * self.volume_bytes


def read_header(path: Path) -> NiftiHeader:
    """What a NIfTI-1 header says.

    Raises:
        PipelineError: the header is missing, unreadable, contradicts itself, or is of a kind that
            is not read.
    """
    head = _head(path)
    order = next((sign for sign in "<>" if struct.unpack_from(sign + "i", head)[0] == 348), "")
    if not order:
        if 540 in struct.unpack_from("<i", head) + struct.unpack_from(">i", head):
            raise file_fault(path, "NIfTI-2", "NIfTI-1", "save it as NIfTI-1")
        raise no_header(path, "NIfTI")
    if head[344:348] != b"n+1\0":
        pair = "one of a pair of files, or ANALYZE" if head[344:347] in (b"ni1", b"\0\0\0") else ""
        fault = f"{pair or 'a damaged header'} (magic {head[344:348]!r})"
        raise file_fault(path, fault, "NIfTI-1 in one file", "save it as .nii.gz")

    def field(format_: str, position: int) -> tuple[float, ...]:
        return struct.unpack_from(order + format_, head, position)

    dtype, colours = _type(path, int(field("h", 70)[0]), int(field("h", 72)[0]))
    (offset,) = field("f", 108)
    if not (HEADER <= offset < 2**31 and offset.is_integer()):
        raise file_fault(path, f"vox_offset {offset:g}", f"{HEADER} or more", CORRECT)
    sizes = _sizes(path, struct.unpack_from(order + "8h", head, 40))
    slope, intercept = _scaling(path, *field("2f", 112))
    if (scale := MILLIMETRES.get(unit := head[123] & 7)) is None:
        raise file_fault(path, f"unit {unit} of space (xyzt_units)", "mm", CORRECT)
    pixdim = field("4f", 76)
    spacing = (pixdim[1] * scale, pixdim[2] * scale, pixdim[3] * scale)
    codes = field("2h", 252)
    sform = _scaled((field("4f", 280), field("4f", 296), field("4f", 312)), scale)
    qform = _quaternion(path, field("6f", 256), pixdim, scale) if codes[0] > 0 else None
    affine = _placed(path, sform if codes[1] > 0 else None, qform, codes, spacing, sizes)
    return NiftiHeader(
        sizes, order + dtype, colours, int(offset), slope, intercept, spacing, affine
    )


def _head(path: Path) -> bytes:
    with opened(path) as file:
        try:
            inside = gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file
            head = inside.read(HEADER)
        except gzip.BadGzipFile as error:
            raise no_header(path, "gzip") from error
        except (EOFError, zlib.error, OSError) as error:
            raise file_fault(path, f"truncated or damaged ({error})", "", FETCH_AGAIN) from error
    if len(head) < HEADER:
        fault = f"truncated, found {len(head)} bytes of data"
        raise file_fault(path, fault, f"{HEADER} or more", FETCH_AGAIN)
    return head


def _type(path: Path, code: int, bits: int) -> tuple[str, int]:
    """Numpy's type, and the values of a voxel."""
    dtype, colours = TYPES.get(code, ("", 0))
    if not dtype:
        raise file_fault(path, f"data type {code}", "integers or floats to 64 bits", "convert it")
    if bits != 8 * int(dtype[1:]) * colours:
        fault = f"data type {code} with {bits} bits per voxel"
        raise file_fault(path, fault, f"{8 * int(dtype[1:]) * colours}", CORRECT)
    return dtype, colours


def _sizes(path: Path, dim: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes without the trailing ones beyond the third; a fifth of vectors stands for a fourth."""
    sizes = list(dim[1 : 1 + dim[0]])
    if not 1 <= dim[0] <= 7 or min(sizes) < 1:
        raise file_fault(path, f"dim {dim}", "1 to 7 sizes above 0", CORRECT)
    while len(sizes) > 4 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == 5 and sizes[3] == 1:
        del sizes[3]
    return tuple(sizes)


def _scaling(path: Path, slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept; 0, and two NaN as some write for "none", scale nothing."""
    if (slope == 0 and intercept == 0) or (math.isnan(slope) and math.isnan(intercept)):
        return 1.0, 0.0
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        fault = f"scl_slope {slope:g} with scl_inter {intercept:g}"
        raise file_fault(path, fault, "two finite numbers, or both 0", CORRECT)
    return slope, intercept


def _scaled(rows: tuple[tuple[float, ...], ...], scale: float) -> Affine:
    return cast(Affine, tuple(tuple(number * scale for number in row) for row in rows))


def _quaternion(
    path: Path, field: tuple[float, ...], pixdim: tuple[float, ...], scale: float
) -> Affine:
    """The affine of a qform: its rotation by the quaternion (a, b, c, d), spacing and offset."""
    b, c, d, *origin = field
    rest = 1 - b * b - c * c - d * d
    if not (rest > -1e-5 and all(map(math.isfinite, origin))):
        fault = f"a qform that is no rotation ({b:g}, {c:g}, {d:g})"
        raise file_fault(path, fault, "a unit quaternion", CORRECT)
    a = math.sqrt(rest) if rest > TURNED_HALF else 0.0
    norm = math.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / norm, b / norm, c / norm, d / norm
    rotation = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b),
    )
    steps = (pixdim[1], pixdim[2], -pixdim[3] if pixdim[0] < 0 else pixdim[3])
    rows = [
        (*(axis * step for axis, step in zip(row, steps, strict=True)), shift)
        for row, shift in zip(rotation, origin, strict=True)
    ]
    return _scaled(tuple(rows), scale)


def _placed(
    path: Path,
    sform: Affine | None,
    qform: Affine | None,
    codes: tuple[float, ...],
    spacing: tuple[float, float, float],
    sizes: tuple[int, ...],
) -> Affine | None:
    """The sform if there is one, else the qform; refused where fields of the header contradict."""
    usable = all(math.isfinite(step) and step > 0 for step in spacing)  # else refused as a grid
    if sform is None or not usable:
        return qform if usable else None
    scales = tuple(math.hypot(*(row[axis] for row in sform)) for axis in range(3))
    if not all(math.isfinite(number) for row in sform for number in row) or not all(
        abs(scale - step) <= AGREE * step for scale, step in zip(scales, spacing, strict=True)
    ):
        sides = [", ".join(f"{number:g}" for number in side) for side in (scales, spacing)]
        fault = f"sform with voxels of ({sides[0]}) mm beside pixdim of ({sides[1]}) mm"
        raise file_fault(path, fault, "both equal", "correct the one that is wrong")
    # where the sform is no scanner's, others follow the qform
    if qform is not None and codes[1] != SCANNER:
        corners = itertools.product(*((0, size - 1) for size in (*sizes, 1, 1)[:3]))
        apart = max(_distance(sform, qform, corner) for corner in corners)
        if apart > APART * min(spacing):
            fault = f"sform and qform place it differently, by up to {apart:.3g} mm"
            remedy = "set the wrong one's code to 0, or both to the same"
            raise file_fault(path, fault, "the same place", remedy)
    return sform


def _distance(one: Affine, other: Affine, corner: tuple[int, ...]) -> float:
    point = (*corner, 1)
    gaps = (
        sum((p - q) * x for p, q, x in zip(row, row_2, point, strict=True))
        for row, row_2 in zip(one, other, strict=True)
    )
    return math.hypot(*gaps)
