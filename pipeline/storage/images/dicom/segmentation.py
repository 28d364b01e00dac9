"""Labels in DICOM: a segmentation is placed on its image's grid, contours are refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault, one_line
from pipeline.storage.images.dicom.series import (
    CONTOURS,
    SEGMENTATIONS,
    headers,
    is_of_file,
    sop_class,
)
from pipeline.storage.images.geometry import Geometry

AXIS_TOLERANCE = 1e-3  # of a voxel's side and direction
PLACE_TOLERANCE = 0.1  # of a voxel


def segmentation_file(path: Path) -> Path | None:
    """The DICOM SEG that a label's file or folder is; None if it is none.

    Raises:
        PipelineError: several of them, contours (RTSTRUCT), or a damaged file.
    """
    kinds = {file: sop_class(one) for file, one in headers(path).items() if one is not None}
    if contours := [file for file, kind in kinds.items() if kind == CONTOURS]:
        remedy = "convert it to DICOM SEG or NIfTI"
        raise file_fault(contours[0], "contours (RTSTRUCT)", "a mask of voxels", remedy)
    found = [file for file, kind in kinds.items() if kind in SEGMENTATIONS]
    if len(found) > 1:
        raise file_fault(path, f"{len(found)} DICOM SEG", "1", "give the file of one")
    return found[0] if found else None


def read_segmentation(file: Path, image: Geometry | None) -> npt.NDArray[Any]:
    """Segment numbers (z, y, x) on the image's grid, 0 where there is none.

    A SEG may hold only the planes with lesion, from either end. Without an image, they stay as
    they are.

    Raises:
        PipelineError: it is damaged, segments overlap, it is fractional, or lies on another grid.
    """
    highdicom: Any = importlib.import_module("highdicom")
    try:
        segmentation = highdicom.seg.segread(file)
        if segmentation.SegmentationType == "FRACTIONAL":
            remedy = "export it as a binary segmentation"
            raise file_fault(file, "a fractional DICOM SEG", "a binary one", remedy)
        volume = segmentation.get_volume(combine_segments=True)
    except PipelineError:
        raise
    except BaseException as error:
        if not is_of_file(error):
            raise
        fault = f"DICOM SEG that cannot be read ({one_line(error)})"
        expected = "parallel frames of segments that do not overlap"
        remedy = "export it again, or of tilted slices in another format"
        raise file_fault(file, fault, expected, remedy) from error
    if image is None:
        return np.asarray(volume.array)
    return _placed(file, volume.array, np.linalg.inv(_affine(image)) @ volume.affine, image)


def _placed(
    file: Path, segments: npt.NDArray[Any], to_image: npt.NDArray[np.float64], image: Geometry
) -> npt.NDArray[Any]:
    """Segments (z, y, x) on the image's grid; `to_image` turns their indices into its indices."""
    remedy = "export it on that image's grid"
    axes = to_image[:3, :3] if len(segments) > 1 else to_image[:3, 1:3]
    if np.abs(axes - np.rint(axes)).max() > AXIS_TOLERANCE or np.abs(axes).max() > 1.5:
        raise file_fault(file, "DICOM SEG of other voxels", "its image's", remedy)
    found = np.argwhere(segments)
    exact = found @ to_image[:3, :3].T + to_image[:3, 3]
    index = np.rint(exact).astype(np.int64)
    if np.any(np.abs(exact - index) > PLACE_TOLERANCE):
        raise file_fault(file, "DICOM SEG between the voxels", "on its image's", remedy)
    if np.any((index < 0) | (index >= image.shape)):
        raise file_fault(file, "DICOM SEG beyond its image", "within it", remedy)
    placed = np.zeros(image.shape, segments.dtype)
    placed[tuple(index.T)] = segments[tuple(found.T)]
    return placed


def _affine(grid: Geometry) -> npt.NDArray[np.float64]:
    """Indices z, y, x to x, y, z in mm (LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3)[::-1] * grid.spacing
    affine[:3, 3] = grid.origin[::-1]
    return affine
