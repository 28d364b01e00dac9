"""What can be wrong with a store, each told in a line, and what may be done about it."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.storage.files import fingerprint

STORE_VERSION = 2
READABLE = (1, STORE_VERSION)  # of version 1 the attributes have no digest
OF_ATTRIBUTES = "attributes_sha256"
# what zarr raises for metadata in which bits are flipped, and for chunks that do not fit it
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
MISPLACED = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # what lies there is no store


class UntouchableError(PipelineError):
    """The error of a store that may be sound: it must not be replaced, nor deleted as useless.

    This user may not read it, the disk does not answer, or newer software has written it.
    """


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """Of the attributes as they are read: as JSON, without what is added after they are hashed."""
    made = {key: one for key, one in attributes.items() if key not in (OF_ATTRIBUTES, "complete")}
    return fingerprint(json.loads(json.dumps(made)))


def check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Raises PipelineError where a store is unfinished, damaged or of another version."""
    if attributes.get("complete") is not True:
        raise PipelineError(f"store {path}: unfinished; delete it and run again")
    version = attributes.get("store_version")
    if isinstance(version, int) and version > STORE_VERSION:
        raise UntouchableError(
            f"store {path}: version {version}, expected {STORE_VERSION}; newer software has "
            "written it: use that, or another folder"
        )
    if version not in READABLE:
        raise PipelineError(
            f"store {path}: version {version}, expected {STORE_VERSION}; delete it and run again"
        )
    if version > 1 and attributes.get(OF_ATTRIBUTES) != attributes_digest(attributes):
        raise PipelineError(
            f"store {path}: damaged (its attributes have changed since they were written); delete "
            "it and run again"
        )


def of_the_machine(error: Exception) -> bool:
    """Whether a fault is the disk's or the process's, such as too many open files."""
    return isinstance(error, OSError) and error.errno not in (None, *MISPLACED, errno.ENOENT)


def does_not_answer(path: Path, error: Exception) -> UntouchableError:
    """The error of a store that the machine cannot read for the moment."""
    reason = getattr(error, "strerror", None) or str(error)
    return UntouchableError(f"store {path}: cannot be read now ({reason}); run again when it can")


def lost(path: Path, name: str) -> PipelineError:
    """The error of an array whose shard is missing or empty."""
    return PipelineError(f"store {path}: {name} has lost its data; delete it and run again")


def unreadable(store: str, name: str, error: Exception) -> PipelineError:
    """The error of an array whose metadata or chunks do not decode; `store` may be an address."""
    where = store.removeprefix("file://")
    if of_the_machine(error):
        return does_not_answer(Path(where), error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return PipelineError(
        f"store {where}: {name} cannot be read ({reason}); delete the store and run again"
    )
