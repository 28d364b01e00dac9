"""The faults of a store: a one-line error for each, with what to do about it."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.storage.files import fingerprint

STORE_VERSION = 2
READABLE = (1, STORE_VERSION)  # version 1 has no digest of its attributes
DIGEST_OF_ATTRIBUTES = "attributes_sha256"
# zarr raises these for metadata with flipped bits, and for chunks that do not match it
GARBLED = (ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError)
UNREADABLE = (OSError, *GARBLED)
MISPLACED = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # something else lies there


class UntouchableError(PipelineError):
    """A store that may be sound (unreadable now, or of newer software): nothing may replace it."""


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """SHA-256 of the attributes as JSON returns them, without those added after hashing."""
    added = (DIGEST_OF_ATTRIBUTES, "complete")
    hashed = {key: value for key, value in attributes.items() if key not in added}
    return fingerprint(json.loads(json.dumps(hashed)))


def check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse a store that is unfinished, damaged or of another version.

    Raises:
        UntouchableError: the store is of a newer version.
        PipelineError: any other fault.
    """
    if attributes.get("complete") is not True:
        raise PipelineError(f"store {path}: unfinished; delete it and run again")
    version = attributes.get("store_version")
    fault = f"store {path}: version {version}, expected {STORE_VERSION}"
    if isinstance(version, int) and version > STORE_VERSION:
        remedy = "newer software has written it: use that, or another folder"
        raise UntouchableError(f"{fault}; {remedy}")
    if version not in READABLE:
        raise PipelineError(f"{fault}; delete it and run again")
    if version > 1 and attributes.get(DIGEST_OF_ATTRIBUTES) != attributes_digest(attributes):
        fault = f"store {path}: damaged (its attributes have changed since they were written)"
        raise PipelineError(f"{fault}; delete it and run again")


def lost_data_error(path: Path, name: str) -> PipelineError:
    """The error for an array whose shard is missing or empty."""
    return PipelineError(f"store {path}: {name} has lost its data; delete it and run again")


def unreadable_error(path: Path, error: Exception, name: str = "") -> PipelineError:
    """The error for a store, or for an array of it, whose metadata or chunks do not decode."""
    # the disk or the process causes it, such as too many open files
    if isinstance(error, OSError) and error.errno not in (None, *MISPLACED, errno.ENOENT):
        fault = f"cannot be read now ({error.strerror or error})"
        return UntouchableError(f"store {path}: {fault}; run again when it can")
    reason = " ".join(str(error).split()) or type(error).__name__
    fault, store = (f"{name} cannot be read", "the store") if name else ("damaged", "it")
    return PipelineError(f"store {path}: {fault} ({reason}); delete {store} and run again")
