"""Residual stores, which lie in the results or in a folder that several projects share.

In the shared folder (`store.root`), a store is named after its fingerprint and its case, whose name
seeds the masks. The results hold a link to it, through which every other stage reads.

With `store.keep: until_predicted` a batch's manifest lists no stores, since they are deleted once
no job of the plan reads them; it has the fingerprints, by which other stages know what they saw.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.storage.batches import batches_with
from pipeline.storage.files import (
    READ_ONLY,
    TEMPORARY,
    read_json,
    remove,
    replacing,
    write,
    write_json,
)
from pipeline.storage.folders import digest_folder, listed
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
# which of these cases' maps a job still reads, where the function gives each case's fingerprint
StillRead = Callable[[Sequence[str], Callable[[str], str]], Collection[str]]
MAPS_SECONDS = "residual_seconds"  # of a prediction's attributes: how long its maps took
GIVEN_BACK = "given_back"  # the key of a manifest whose stores are there for a while


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
    if (attributes := store_attributes(path)) is not None:
        return str(attributes["fingerprint"])
    if key := given_back_key(layout, residuals, case):
        return key
    fault = f"case {case}: residual store {path} is missing or damaged"
    raise PipelineError(f"{fault}; run residual-maps again")


def given_back_key(layout: Layout, residuals: str, case: str) -> str | None:
    """The fingerprint of maps that are given back, by the newest manifest that lists them."""
    paths = [layout.residual_batch(residuals, batch) for batch in batches_with(case)]
    there = sorted((path.stat().st_mtime_ns, path) for path in paths if path.exists())
    return _keys_given_back(*there[-1][::-1]).get(case) if there else None


@lru_cache(maxsize=64)
def _keys_given_back(manifest: Path, written: int) -> dict[str, str]:  # noqa: ARG001
    content = read_json(manifest)
    return dict(content["cases"]) if content.get(GIVEN_BACK) else {}


def maps_there(layout: Layout, name: str, batch: str) -> Path:
    """The file that stands for a batch's stores where they are given back; its job writes it last.

    Snakemake deletes it when the last job that reads these maps has ended.
    """
    return layout.residual_batch(name, batch).with_suffix(".stores")


def write_batch(
    layout: Layout, name: str, batch: str, keys: Mapping[str, str], *, given_back: bool
) -> None:
    """Write the manifest of a batch of finished stores.

    Of stores that are `given_back` those of other fingerprints are deleted: no job reads them.
    """
    manifest = layout.residual_batch(name, batch)
    if not given_back:
        outputs = listed((layout.residual_store(name, case) for case in keys), manifest)
        write_json(manifest, {"cases": keys, "outputs": outputs})
        maps_there(layout, name, batch).unlink(missing_ok=True)
        return
    stores = {layout.residual_store(name, case): key for case, key in keys.items()}
    give_back(path for path, key in stores.items() if not is_current(path, key))
    write_json(manifest, {"cases": keys, "outputs": [], GIVEN_BACK: True})
    write(maps_there(layout, name, batch), "")


def give_back(stores: Iterable[Path]) -> int:
    """Delete residual stores, and return how many there were; a reader never sees half of one."""
    count = 0
    for path in stores:
        if os.path.lexists(path):
            hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
            path.rename(hidden)
            remove(hidden)
            count += 1
    return count
