"""Zarr stores of cases, residuals and probabilities; only this module uses zarr.

A store appears whole or not at all: it is written under a temporary name, marked as complete last,
flushed and then renamed. Arrays are in `(z, y, x)` order.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec

from pipeline.errors import PipelineError
from pipeline.storage import zarr_faults, zarr_metadata
from pipeline.storage.files import replacing
from pipeline.storage.zarr_faults import STORE_VERSION, UNREADABLE, UntouchableError

Store = zarr.Group
StoredArray: TypeAlias = "zarr.Array[Any]"
Arrays = Mapping[str, npt.NDArray[Any]]
Attributes = Mapping[str, Any]
ZSTD_LEVEL = 3
BLOCK_BYTES = 32 * 2**20
DIGEST = "sha256_"
SETTLING_SECONDS = 0.2
# zarrs puts a shard's chunks in the order in which its threads end
WRITTEN_BY = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}


def array_digest(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's shape, dtype and values."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_store(path: Path, arrays: Arrays, attributes: Attributes, *, slice_axis: int = 0) -> None:
    """Write a case's arrays: a chunk for each slice along `slice_axis`, a shard for each array."""
    with replacing(path) as temporary, zarr.config.set(WRITTEN_BY):
        try:
            _write_arrays(temporary, arrays, attributes, slice_axis)
        except OSError:
            # zarr writes in parallel: other writes end a moment after the failed one, and would
            # recreate the folder that is removed now
            time.sleep(SETTLING_SECONDS)
            raise


def _write_arrays(path: Path, arrays: Arrays, attributes: Attributes, slice_axis: int) -> None:
    group = zarr.create_group(path, zarr_format=3)
    for name, array in arrays.items():
        chunks = (1 if axis == slice_axis else size for axis, size in enumerate(array.shape))
        stored = group.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=tuple(chunks),
            shards=array.shape,
            # without a checksum, most flipped bits decode to wrong values instead of an error
            compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
            # a hole in a floating-point array never reads as a value
            fill_value=np.nan if array.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )
        stored[:] = array
    digests = {f"{DIGEST}{name}": array_digest(array) for name, array in arrays.items()}
    written = {**attributes, **digests, "store_version": STORE_VERSION}
    digest = zarr_faults.attributes_digest(written)
    group.attrs.update({**written, zarr_faults.DIGEST_OF_ATTRIBUTES: digest})
    group.attrs["complete"] = True


def worker_start() -> str | None:
    """The start method for processes that read stores; None if any works."""
    # zarrs reads with threads, which a fork does not copy: its first read would wait forever
    pipeline = str(zarr.config.get("codec_pipeline.path"))
    return "forkserver" if pipeline.startswith("zarrs.") else None


def compressed_bytes(plane: npt.NDArray[Any]) -> int:
    """The bytes that a slice takes in a store."""
    return len(Zstd(level=ZSTD_LEVEL, checksum=True).encode(np.ascontiguousarray(plane)))


def open_store(path: Path) -> Store:
    """A finished store, open for reading.

    Raises:
        UntouchableError: the store cannot be read now, or is of a newer version.
        PipelineError: there is no store, or it is unfinished, damaged or of an older version.
    """
    # messages name the store itself, because deleting a link to it does not help
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        attributes = zarr_metadata.group_attributes(path)
        zarr_faults.check_attributes(path, attributes)
        written = _written_arrays(attributes)
        for name in written:
            if not (path / name / zarr_metadata.METADATA).exists():
                raise zarr_faults.lost_data_error(path, name)
        zarr_metadata.check_arrays(path, written, attributes)
        group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
        arrays = {name: group[name] for name in written}
    except FileNotFoundError:
        raise PipelineError(f"store {path}: not there; run the stage that writes it") from None
    except PermissionError:
        fault = f"store {path}: not readable for you; have it opened to you"
        raise UntouchableError(fault) from None
    except UNREADABLE as error:
        raise zarr_faults.unreadable_error(path, error) from error
    for name, array in arrays.items():
        if not isinstance(array, zarr.Array) or not _has_data(path / name, array.ndim):
            raise zarr_faults.lost_data_error(path, name)
    return group


def _has_data(array: Path, dimensions: int) -> bool:
    """Whether an array has its shard; zarr reads a missing or empty one as fill values."""
    shard = array / "c" / Path(*"0" * dimensions)
    return shard.is_file() and shard.stat().st_size > 0


def _written_arrays(attributes: Attributes) -> list[str]:
    return [key.removeprefix(DIGEST) for key in attributes if key.startswith(DIGEST)]


def read_array(group: Store, name: str, index: Any = None) -> npt.NDArray[Any]:
    """An array of a store, or a part of it; see `read_part`."""
    return read_part(stored_array(group, name), index)


def stored_array(group: Store, name: str) -> StoredArray:
    """An array of a store, open for repeated reading; opening costs a third of reading a slice.

    Raises:
        PipelineError: the array is damaged.
    """
    try:
        array = group[name]
    except UNREADABLE as error:
        raise zarr_faults.unreadable_error(_path(group), error, name) from error
    assert isinstance(array, zarr.Array)
    return array


def _path(node: Store | StoredArray) -> Path:
    return Path(str(node.store_path).removeprefix("file://"))


def read_part(array: StoredArray, index: Any = None) -> npt.NDArray[Any]:
    """A part of an array, or all of it.

    Raises:
        PipelineError: the array is damaged, or was removed after its store was opened.
    """
    folder = _path(array)
    try:
        read = _read_in_blocks(array) if index is None else np.asarray(array[index])
    except UNREADABLE as error:
        raise zarr_faults.unreadable_error(folder.parent, error, folder.name) from error
    if not _has_data(folder, array.ndim):
        raise zarr_faults.lost_data_error(folder.parent, folder.name)
    return read


def _read_in_blocks(array: StoredArray) -> npt.NDArray[Any]:
    """A whole array, read a few slices at a time, because zarr needs several times their memory."""
    axis = next((a for a, size in enumerate(array.chunks) if size < array.shape[a]), 0)
    step = max(1, BLOCK_BYTES * array.shape[axis] // max(1, array.nbytes))
    read = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[axis], step):
        part = (slice(None),) * axis + (slice(start, start + step),)
        read[part] = array[part]
    return read


def store_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of a finished store, or None if there is no usable one.

    Raises:
        UntouchableError: a store cannot be read now, or is of a newer version.
    """
    try:
        return open_store(path).attrs.asdict()
    except UntouchableError:
        raise
    except PipelineError:
        return None


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether a finished store is of exactly these inputs and settings; see `store_attributes`."""
    attributes = store_attributes(path)
    return attributes is not None and attributes.get("fingerprint") == fingerprint


def verify_store(path: Path) -> None:
    """Read every array again and compare it with the digest noted when it was written.

    Raises:
        PipelineError: the store is unfinished or damaged, or values have changed or are not finite.
    """
    group = open_store(path)
    for name in _written_arrays(group.attrs):
        array = read_array(group, name)
        if array_digest(array) != group.attrs[f"{DIGEST}{name}"]:
            fault = f"store {path}: {name} has changed since it was written"
            raise PipelineError(f"{fault}; delete it and run again")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            fault = f"store {path}: {name} holds values that are no finite numbers"
            raise PipelineError(f"{fault}; delete it and the model behind it, and run again")
