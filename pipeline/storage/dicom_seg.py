"""Labels in DICOM: a segmentation is placed on its image's grid, contours are refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError, file_fault, one_line
from pipeline.storage.dicom_series import CONTOURS, SEGMENTATIONS, headers, sop_class
from pipeline.storage.geometry import Geometry


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

    A SEG may hold only the planes with lesion, from either end.

    Raises:
        PipelineError: it is damaged, segments overlap, it is fractional, or lies on another grid.
    """
    highdicom: Any = importlib.import_module("highdicom")
    try:
        segmentation = highdicom.seg.segread(file)
        if str(segmentation.SegmentationType) == "FRACTIONAL":
            remedy = "export it as a binary segmentation"
            raise file_fault(file, "a fractional DICOM SEG", "a binary one", remedy)
        volume = segmentation.get_volume(combine_segments=True)
        if image is not None:
            reference = volume.frame_of_reference_uid
            grid = highdicom.VolumeGeometry(_affine(image), image.shape, "PATIENT", reference)
            volume = volume.match_geometry(grid)
    except PipelineError:
        raise
    except Exception as error:
        fault = f"DICOM SEG that does not fit ({one_line(error)})"
        expected = "one that lies on its image's grid, of segments that do not overlap"
        raise file_fault(file, fault, expected, "export it on that image's grid") from error
    return np.ascontiguousarray(volume.array)


def _affine(grid: Geometry) -> npt.NDArray[np.float64]:
    """Indices z, y, x to x, y, z in mm (LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3)[::-1] * grid.spacing
    affine[:3, 3] = grid.origin[::-1]
    return affine
