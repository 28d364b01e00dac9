"""The one 3D image that is meant in a file of several volumes, or of several values per voxel."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import file_fault


def check_channel(path: Path, sizes: tuple[int, ...], values: int, channel: int | None) -> None:
    """Refuse an image that is not 3D, and one of several volumes without a valid choice.

    Raises:
        PipelineError: `sizes` (x, y, z, …), the `values` per voxel and `channel` do not fit.
    """
    if len(sizes) == 4 and values == 1:
        count, kind = sizes[3], f"a 4D image of {sizes[3]} volumes"
    elif len(sizes) == 3:
        count, kind = values, f"{values} values per voxel"
    else:
        raise file_fault(path, f"a {len(sizes)}D image", "3D", "split or stack it")
    if channel is None and count > 1:
        remedy = f"split it, or for images set source.channel to one of 0 … {count - 1}"
        raise file_fault(path, kind, "one 3D image", remedy)
    if channel is not None and channel >= count:
        fault = f"{kind}, but source.channel is {channel}"
        raise file_fault(path, fault, f"0 … {count - 1}", "correct it")
