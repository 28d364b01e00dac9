"""The Zarr case, residual and probability stores: written whole, read with damage told.

A store appears whole or not at all: it is written under a temporary name beside its place, marked
complete last, flushed, and then renamed. Everything is in `(z, y, x)` order. This module is the
only user of zarr.
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
from pipeline.storage.files import replacing
from pipeline.storage.zarr_faults import (
    OF_ATTRIBUTES,
    STORE_VERSION,
    UNREADABLE,
    UntouchableError,
    attributes_digest,
    check_attributes,
    does_not_answer,
    lost,
    of_the_machine,
    unreadable,
)

Store = zarr.Group
StoredArray: TypeAlias = "zarr.Array[Any]"
ZSTD_LEVEL = 3
BLOCK_BYTES = 32 * 2**20
DIGEST = "sha256_"
SETTLING_SECONDS = 0.2


def array_digest(array: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's shape, dtype and values."""
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_store(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    attributes: Mapping[str, Any],
    *,
    slice_axis: int = 0,
) -> None:
    """Write one case's arrays: a chunk a slice, all chunks of an array in one shard, zstd.

    Args:
        path: the store's folder, `….zarr`.
        arrays: name → array; floating-point arrays get the fill value NaN, so that a hole can
            never pass for a value.
        attributes: what made the store; plain JSON values.
        slice_axis: the axis that counts slices.
    """
    with replacing(path) as temporary:
        try:
            _write_arrays(temporary, arrays, attributes, slice_axis)
        except OSError:
            # zarr writes side by side: the others end a moment after the one that failed, and
            # would make the folder again that is now removed
            time.sleep(SETTLING_SECONDS)
            raise


def _write_arrays(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    attributes: Mapping[str, Any],
    slice_axis: int,
) -> None:
    group = zarr.create_group(path, zarr_format=3)
    for name, array in arrays.items():
        chunks = list(array.shape)
        chunks[slice_axis] = 1
        stored = group.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=tuple(chunks),
            shards=array.shape,
            # without the checksum most flipped bits decode to other values and no error
            compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
            fill_value=np.nan if array.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )
        stored[:] = array
    digests = {f"{DIGEST}{name}": array_digest(array) for name, array in arrays.items()}
    made = {**attributes, **digests, "store_version": STORE_VERSION}
    group.attrs.update({**made, OF_ATTRIBUTES: attributes_digest(made)})
    group.attrs["complete"] = True


def worker_start() -> str | None:
    """How processes that read stores have to be started; None where any way does.

    zarrs reads with threads that a fork does not take over: the first read would wait for ever.
    """
    zarrs = str(zarr.config.get("codec_pipeline.path")).startswith("zarrs.")
    return "forkserver" if zarrs else None


def compressed_bytes(plane: npt.NDArray[Any]) -> int:
    """What a slice takes in a store."""
    return len(Zstd(level=ZSTD_LEVEL, checksum=True).encode(np.ascontiguousarray(plane)))


def open_store(path: Path) -> Store:
    """A finished store, for reading.

    Raises:
        UntouchableError: it cannot be looked at, or is of a newer version.
        PipelineError: there is no store, or it is unfinished, damaged or of an older version.
    """
    # what is at fault, and has to be deleted, is not the link
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        arrays = dict(group.arrays())
    except FileNotFoundError:
        raise PipelineError(f"store {path}: not there; run the stage that writes it") from None
    except PermissionError:
        raise UntouchableError(
            f"store {path}: not readable for you; have it opened to you"
        ) from None
    except UNREADABLE as error:
        if of_the_machine(error):
            raise does_not_answer(path, error) from error
        reason = " ".join(str(error).split())
        raise PipelineError(f"store {path}: damaged ({reason}); delete it and run again") from error
    check_attributes(path, attributes)
    for name in _written_arrays(attributes):
        # zarr lists no array without metadata
        if name not in arrays or not _has_data(path / name, arrays[name].ndim):
            raise lost(path, name)
    return group


def _has_data(array: Path, dimensions: int) -> bool:
    """Whether an array's shard is there: zarr reads a missing or empty one as fill values."""
    shard = array / "c" / Path(*"0" * dimensions)
    return shard.is_file() and shard.stat().st_size > 0


def _written_arrays(attributes: Mapping[str, Any]) -> list[str]:
    return [key.removeprefix(DIGEST) for key in attributes if key.startswith(DIGEST)]


def read_array(group: Store, name: str, index: Any = slice(None)) -> npt.NDArray[Any]:
    """An array of a store, or a part of it, with damage told as a user's error."""
    return read_part(stored_array(group, name), index)


def stored_array(group: Store, name: str) -> StoredArray:
    """An array of a store, to read parts of again and again: finding it costs a third of a slice.

    Raises:
        PipelineError: it is damaged.
    """
    try:
        array = group[name]
    except UNREADABLE as error:
        raise unreadable(str(group.store_path), name, error) from error
    assert isinstance(array, zarr.Array)
    return array


def read_part(array: StoredArray, index: Any = slice(None)) -> npt.NDArray[Any]:
    """A part of an array, or all of it, with damage told as a user's error.

    Raises:
        PipelineError: it is damaged, or has gone since its store was opened.
    """
    folder = Path(str(array.store_path).removeprefix("file://"))
    try:
        whole = isinstance(index, slice) and index == slice(None)
        read = _read_in_blocks(array) if whole else np.asarray(array[index])
    except UNREADABLE as error:
        raise unreadable(str(folder.parent), folder.name, error) from error
    if not _has_data(folder, array.ndim):
        raise lost(folder.parent, folder.name)
    return read


def _read_in_blocks(array: StoredArray) -> npt.NDArray[Any]:
    """A whole array, a few slices at a time: zarr takes several times what it reads at once."""
    axis = next((a for a, size in enumerate(array.chunks) if size < array.shape[a]), 0)
    count = array.shape[axis]
    step = max(1, BLOCK_BYTES * count // max(1, array.nbytes))
    read = np.empty(array.shape, array.dtype)
    for start in range(0, count, step):
        part = (slice(None),) * axis + (slice(start, start + step),)
        read[part] = array[part]
    return read


def store_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of a finished store, or None where there is none that can be used.

    Raises:
        UntouchableError: there may be one, but it cannot be looked at, or is of a newer version.
    """
    try:
        return open_store(path).attrs.asdict()
    except UntouchableError:
        raise
    except PipelineError:
        return None


def is_current(path: Path, wanted_fingerprint: str) -> bool:
    """Whether a finished store made from exactly these inputs and settings lies at `path`.

    Raises:
        UntouchableError: as for `store_attributes`.
    """
    attributes = store_attributes(path)
    return attributes is not None and attributes.get("fingerprint") == wanted_fingerprint


def verify_store(path: Path) -> None:
    """Re-read every array and compare it with the digest noted when it was written.

    Raises:
        PipelineError: the store is unfinished, damaged, holds other values than were written,
            or values that are not finite.
    """
    group = open_store(path)
    for name in _written_arrays(group.attrs):
        array = read_array(group, name)
        if array_digest(array) != group.attrs[f"{DIGEST}{name}"]:
            raise PipelineError(
                f"store {path}: {name} has changed since it was written; delete it and run again"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PipelineError(
                f"store {path}: {name} holds values that are no finite numbers; delete it and the "
                "model behind it, and run again"
            )
