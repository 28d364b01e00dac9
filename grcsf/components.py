"""Lesions in a volume: 3D 6-connected components, their sizes, and a filter by volume."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from grcsf.metrics import check_masks

Mask = npt.NDArray[np.bool_]
Components = npt.NDArray[np.int32]


def label_lesions(mask: Mask) -> tuple[Components, int]:
    """Number the 3D 6-connected components (voxels that share a face).

    Args:
        mask: (z, y, x) bool, 1 = lesion.

    Returns:
        Components (z, y, x) int32, 0 = background, 1 … n in scan order; and n.

    Raises:
        ValueError: The mask is not boolean or not 3D.
    """
    _check_volume(mask)
    components = np.zeros(mask.shape, np.int32)
    # memory of slices without lesion is never touched, so few lesions take little of it
    depth = _lesion_slices(mask)
    number = ndimage.label(mask[depth], structure=_faces(), output=components[depth])
    return components, int(number)


def _check_volume(mask: Mask) -> None:
    check_masks(mask)
    if mask.ndim != 3:
        raise ValueError(f"a mask must be (z, y, x), found shape {mask.shape}")


def _faces() -> Mask:
    faces: Mask = ndimage.generate_binary_structure(3, 1)
    return faces


def _lesion_slices(mask: Mask) -> slice:
    """From the first to the last slice with lesion, which is contiguous, unlike a box."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    return slice(int(slices[0]), int(slices[-1]) + 1) if slices.size else slice(0, 0)


def component_sizes(components: Components, number: int) -> npt.NDArray[np.int64]:
    """Voxels of every component: (n,), entry i belongs to component i + 1."""
    # only of voxels inside, which are few: bincount takes eight bytes for each voxel
    sizes: npt.NDArray[np.int64] = np.bincount(components[components > 0], minlength=number + 1)[1:]
    return sizes


def paint_components(values: npt.NDArray[Any], components: Components) -> npt.NDArray[Any]:
    """Give every component's voxels the component's value, and all others 0.

    Args:
        values: (n,), entry i belongs to component i + 1.
        components: (z, y, x), 0 = background, 1 … n.

    Returns:
        (z, y, x) in the values' type.
    """
    painted = np.zeros(components.shape, values.dtype)
    inside = np.flatnonzero(components)
    painted.reshape(-1)[inside] = values[components.reshape(-1)[inside] - 1]
    return painted


def lesion_sizes(mask: Mask) -> npt.NDArray[np.int64]:
    """Voxels of every lesion, in scan order: (n,).

    Raises:
        ValueError: The mask is not boolean or not 3D.
    """
    return component_sizes(*label_lesions(mask))


def voxel_volume_mm3(spacing_mm: Sequence[float]) -> float:
    """Volume of one voxel in mm³ from its (z, y, x) spacing in mm.

    Raises:
        ValueError: Not three positive, finite numbers.
    """
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        raise ValueError(f"spacing must be 3 positive numbers (z, y, x) in mm, found {spacing_mm}")
    return math.prod(float(side) for side in spacing_mm)


def large_enough(
    sizes: npt.NDArray[np.int64], spacing_mm: Sequence[float], min_volume_mm3: float
) -> Mask:
    """Which components reach a volume: (n,) bool, 1 = volume ≥ ``min_volume_mm3``.

    Raises:
        ValueError: The volume is negative or nan, or the spacing is not valid.
    """
    if not min_volume_mm3 >= 0:
        raise ValueError(f"minimum volume must be 0 mm³ or more, found {min_volume_mm3}")
    # Three voxels of 0.1 mm³ must pass a minimum of 0.3 mm³, whatever the rounding.
    reached: Mask = sizes * voxel_volume_mm3(spacing_mm) >= min_volume_mm3 * (1 - 1e-9)
    return reached


def filter_components(
    mask: Mask, spacing_mm: Sequence[float], min_volume_mm3: float, *, in_place: bool = False
) -> Mask:
    """Drop components smaller than a volume; 0 mm³ keeps all.

    Args:
        mask: (z, y, x) bool, 1 = lesion.
        spacing_mm: (z, y, x) in mm.
        min_volume_mm3: Smallest volume to keep, in mm³.
        in_place: Change the mask itself, which saves a copy of a large volume.

    Returns:
        (z, y, x) bool, 1 = lesion.

    Raises:
        ValueError: The mask, the spacing or the volume is not valid.
    """
    check_masks(mask)
    if large_enough(np.ones(1, np.int64), spacing_mm, min_volume_mm3).all():
        # a single voxel is large enough, so nothing needs a number
        return mask if in_place else mask.copy()
    inside, owners, number = lesion_voxels(mask)
    sizes = np.bincount(owners, minlength=number)
    small = ~large_enough(sizes, spacing_mm, min_volume_mm3)
    filtered = mask if in_place else mask.copy()
    np.put(filtered, inside[small[owners]], False)
    return filtered


def lesion_voxels(
    mask: Mask,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
    """The voxels of a mask with the lesion of each, which take less memory than a numbered volume.

    Args:
        mask: (z, y, x) bool, 1 = lesion.

    Returns:
        Flat positions of the mask's voxels, (m,); the lesion 0 … n − 1 of each, (m,); and n.

    Raises:
        ValueError: The mask is not boolean or not 3D.
    """
    _check_volume(mask)
    # only slices with lesion: allocating four bytes a voxel takes longer than the numbering
    depth = _lesion_slices(mask)
    components = np.empty(mask[depth].shape, np.int32)
    number = ndimage.label(mask[depth], structure=_faces(), output=components)
    owners: npt.NDArray[np.int32] = components.reshape(-1)[np.flatnonzero(mask[depth])] - 1
    return np.flatnonzero(mask), owners, int(number)
