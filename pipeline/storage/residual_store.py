"""Where residual stores lie: with the results, or in a folder that several projects share.

In the shared folder (`store.root`) a store is called by its case and its fingerprint: masks are
drawn from the case's name, so equal images of two names have residuals of their own. The results
hold a link to it, and every other stage reads through the link.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.storage.files import READ_ONLY, replacing
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import is_current, store_attributes, write_store

log = logging.getLogger(__name__)


def shared_store(root: Path, case: str, fingerprint: str) -> Path:
    """The place of one case's residuals in the shared folder."""
    return root / case / f"{fingerprint}.zarr"


def find_or_link(layout: Layout, name: str, case: str, fingerprint: str) -> bool:
    """Whether a case's residuals are at hand; those of the shared folder are linked.

    Raises:
        UntouchableError: the results hold a store that cannot be looked at.
    """
    path = layout.residual_store(name, case)
    # what a link leads to may be another user's by now; a store of one's own can take its place
    if (_can_be_read if path.is_symlink() else is_current)(path, fingerprint):
        return True
    if layout.shared is None:
        return False
    shared = shared_store(layout.shared, case, fingerprint)
    if not _can_be_read(shared, fingerprint):
        return False
    _link(layout, path, shared)
    log.info("%s: %s found in %s", name, case, layout.shared)
    return True


def write_residuals(
    layout: Layout,
    name: str,
    case: str,
    residual: npt.NDArray[np.float16],
    attributes: Mapping[str, Any],
) -> None:
    """Keep a case's maps `(ratio, z, h, w)`, in the shared folder if there is one to write to.

    Args:
        layout: where the results lie.
        name: the residual set.
        case: the case's name.
        residual: in [0, 1].
        attributes: what made them; `fingerprint` is among them.

    Raises:
        PipelineError: the shared folder is full, or is none.
    """
    path = layout.residual_store(name, case)
    arrays = {"residual": residual}
    if layout.shared is not None:
        key = str(attributes["fingerprint"])
        shared = shared_store(layout.shared, case, key)
        try:
            # another project's job may have been faster, and may be reading its store by now
            if not is_current(shared, key):
                write_store(shared, arrays, attributes, slice_axis=1)
        except UntouchableError as error:
            log.warning("%s: %s; its residuals are kept in %s", case, error, path.parent)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise PipelineError(
                    f"case {case}: store.root {layout.shared}: its residuals cannot be written "
                    f"there ({error.strerror or error}); free some space or choose another "
                    "`store.root`, and run again"
                ) from error
            _tell_once(layout.shared, path.parent)
        else:
            _link(layout, path, shared)
            return
    write_store(path, arrays, attributes, slice_axis=1)


def _can_be_read(store: Path, fingerprint: str) -> bool:
    """`is_current`, but for stores of others: those that cannot be read are as good as none."""
    try:
        return is_current(store, fingerprint)
    except UntouchableError:
        return False


def _link(layout: Layout, path: Path, shared: Path) -> None:
    """Link to the shared folder, so that a project that holds it can be moved as a whole."""
    target = shared.resolve()
    if target.is_relative_to(layout.root.resolve().parent):
        target = Path(os.path.relpath(target, path.parent.resolve()))
    with replacing(path) as temporary:
        temporary.symlink_to(target)


@functools.cache
def _tell_once(shared: Path, instead: Path) -> None:
    log.warning(
        "store.root %s: not writable for you, so residuals that it lacks are kept in %s",
        shared,
        instead,
    )


def residual_fingerprint(layout: Layout, residuals: str, case: str) -> str:
    """What a case's residual store was made from.

    Raises:
        PipelineError: there is no finished store.
    """
    path = layout.residual_store(residuals, case)
    attributes = store_attributes(path)
    if attributes is None:
        raise PipelineError(
            f"case {case}: residual store {path} is missing or damaged; run residual-maps again"
        )
    return str(attributes["fingerprint"])
