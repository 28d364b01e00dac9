"""Residual stores, which lie in the results or in a folder that several projects share.

In the shared folder (`store.root`), a store is named after its fingerprint and its case, whose name
seeds the masks. The results hold a link to it, through which every other stage reads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.storage.files import READ_ONLY, replacing
from pipeline.storage.folders import digest_folder
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import (
    is_current,
    open_store,
    store_attributes,
    stored_array,
    verify_store,
    write_store,
)

log = logging.getLogger(__name__)
Maps = npt.NDArray[np.float16]  # (ratio, z, h, w), values in [0, 1], signed ones in [−1, 1]


def shared_store(root: Path, case: str, fingerprint: str, *, many: bool = False) -> Path:
    """The path of one case's residuals in the shared folder, where they lie or else shall lie.

    Projects of `many` cases keep them in folders by digest, and each finds the others' as well.
    """
    flat, deeper = root / case, root / digest_folder(case) / case
    name = f"{fingerprint}.zarr"
    there = next((path for path in (flat, deeper) if os.path.lexists(path / name)), None)
    return (there or (deeper if many and not flat.exists() else flat)) / name


def find_or_link(
    layout: Layout,
    name: str,
    case: str,
    fingerprint: str,
    shape: tuple[int, ...],  # of its maps (ratio, z, h, w)
) -> bool:
    """Whether the results have a case's residuals, now that those of the shared folder are linked.

    Raises:
        UntouchableError: the results hold a store that cannot be read now.
        PipelineError: a store of the shared folder has maps of another shape, or changed ones.
    """
    path = layout.residual_store(name, case)
    # a link may lead to another user's store by now; an own store can take its place
    if (_can_be_read if path.is_symlink() else is_current)(path, fingerprint):
        _check_form(path, case, shape)
        return True
    many = layout.by_digest.exists()
    shared = layout.shared and shared_store(layout.shared, case, fingerprint, many=many)
    if shared is None or not _can_be_read(shared, fingerprint):
        return False
    _check_form(shared, case, shape)
    verify_store(shared)  # somebody else has written it: read once before weeks rest on it
    _link(layout, path, shared)
    log.info("%s: %s found in %s", name, case, layout.shared)
    return True


def write_residuals(
    layout: Layout, name: str, case: str, residual: Maps, attributes: Mapping[str, Any]
) -> None:
    """Write a case's maps, and what made them, into the shared folder or else into the results.

    Raises:
        PipelineError: the shared folder is full, or is not a folder.
    """
    path = layout.residual_store(name, case)
    write = partial(write_store, arrays={"residual": residual}, attributes=attributes, slice_axis=1)
    if layout.shared is None:
        write(path)
        return
    many = layout.by_digest.exists()
    shared = shared_store(layout.shared, case, attributes["fingerprint"], many=many)
    try:
        # a job of another project may have written it meanwhile, and may be reading it
        if not is_current(shared, attributes["fingerprint"]):
            write(shared)
    except UntouchableError as error:
        log.warning("%s: %s; its residuals are kept in %s", case, error, path.parent)
        write(path)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise PipelineError(
                f"case {case}: store.root {layout.shared}: its residuals cannot be written there "
                f"({error.strerror or error}); free some space or choose another `store.root`, "
                "and run again"
            ) from error
        _warn_once(layout.shared, path.parent)
        write(path)
    else:
        _link(layout, path, shared)


def _check_form(path: Path, case: str, shape: tuple[int, ...]) -> None:
    maps = stored_array(open_store(path), "residual")
    if maps.shape != shape or maps.dtype != np.float16:
        raise PipelineError(
            f"case {case}: store {os.path.realpath(path)}: found residuals {maps.shape} "
            f"{maps.dtype}, expected {shape} float16; delete it, ask who wrote it, and run again"
        )


def _can_be_read(store: Path, fingerprint: str) -> bool:
    """`is_current` for stores of other users: one that cannot be read counts as missing."""
    with suppress(UntouchableError):
        return is_current(store, fingerprint)
    return False


def _link(layout: Layout, path: Path, shared: Path) -> None:
    """Link to a shared store; relatively if it lies in the project, which can then be moved."""
    target = shared.resolve()
    if target.is_relative_to(layout.root.resolve().parent):
        target = Path(os.path.relpath(target, path.parent.resolve()))
    with replacing(path) as temporary:
        temporary.symlink_to(target)


@cache
def _warn_once(shared: Path, instead: Path) -> None:
    message = "store.root %s: not writable for you, so residuals that it lacks are kept in %s"
    log.warning(message, shared, instead)


def residual_fingerprint(layout: Layout, residuals: str, case: str) -> str:
    """The fingerprint of what made a case's residual store.

    Raises:
        PipelineError: there is no finished store.
    """
    path = layout.residual_store(residuals, case)
    if (attributes := store_attributes(path)) is None:
        fault = f"case {case}: residual store {path} is missing or damaged"
        raise PipelineError(f"{fault}; run residual-maps again")
    return str(attributes["fingerprint"])
