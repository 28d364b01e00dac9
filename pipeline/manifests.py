"""Manifests that no longer tell the truth.

A job's declared output is a manifest; the stores, models and masks that it lists under `outputs`
are not declared, because Snakemake deletes the declared outputs of a job that fails. So Snakemake
cannot miss a store that somebody deleted or edited: a manifest whose outputs have vanished, or hold
something else than its stage wrote, is withdrawn, and its job runs again and makes only what is
missing. The workflow asks for every manifest by name, because Snakemake does not miss a file
between others that are up to date.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.last_run import LONG_AGO_NS
from pipeline.layout import Layout, is_record
from pipeline.stores import file_digest, read_json, verify_store

MANIFESTS = (
    "ingest/manifest.json",
    "train_mae/*.json",
    "residual_maps/*/*.json",
    "train_segmentation/*/*.json",
    "predict/*/*.json",
    "postprocess/*/*.json",
)


def withdraw_untrue(layout: Layout) -> list[str]:
    """Delete a data set's manifests that list an output which is not there, or not as it was made.

    An output that was changed since its manifest was written is read and compared with its digest;
    one that differs is set aside under a hidden name, which `grcsf store prune` finds.

    Returns:
        A line for each manifest and each output. A manifest that cannot be read, or that does not
        say what its outputs are, is deleted too: its stage writes it anew.

    Raises:
        PipelineError: a store of a shared folder is damaged.
    """
    folder = layout.root / layout.dataset
    lines = []
    found = sorted(path for pattern in MANIFESTS for path in folder.glob(pattern))
    for manifest in (path for path in found if not is_record(path)):
        outputs = _outputs(manifest)
        aside = list(_set_aside(manifest, outputs or {}))
        lines += aside
        if outputs is None or aside or not all(path.exists() for path in outputs):
            manifest.unlink()
            lines.append(f"withdrawn, because what it lists is not there: {manifest}")
    return lines


def _outputs(manifest: Path) -> dict[Path, dict[str, Any]] | None:
    """The outputs that a manifest lists, with its content; None where it lists none."""
    try:
        content = json.loads(manifest.read_text("utf-8"))
        return {manifest.parent / output: content for output in content["outputs"]}
    except (ValueError, KeyError, TypeError):
        return None


def _set_aside(manifest: Path, outputs: Mapping[Path, dict[str, Any]]) -> Iterator[str]:
    written_ns = manifest.stat().st_mtime_ns
    if written_ns == LONG_AGO_NS:  # all is to be looked at again
        return
    for path, content in outputs.items():
        if not path.exists() or _changed_ns(path) <= written_ns:
            continue
        try:
            _verify(path, content)
        except PipelineError as error:
            if path.is_symlink():
                raise
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.old")
            path.rename(aside)
            reason = str(error).partition("; delete")[0]
            yield f"set aside as {aside.name} and made again: {reason}"
        else:
            _remember_unchanged(path, written_ns)


def _changed_ns(path: Path) -> int:
    """When the newest of an output's files was written."""
    if not path.is_dir():
        return path.stat().st_mtime_ns
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return max((file.stat().st_mtime_ns for file in files), default=0)


def _verify(path: Path, content: Mapping[str, Any]) -> None:
    """Raises PipelineError where an output is not what its stage wrote."""
    if path.suffix == ".zarr":
        verify_store(path)
        return
    if "weights_sha256" in content:
        expected = content["weights_sha256"]
    else:
        case = next(case for case, one in content["cases"].items() if one["file"] == path.name)
        expected = read_json(path.with_name(f"{case}.json"))["sha256"]
    if file_digest(path) != expected:
        raise PipelineError(f"{path}: has changed since it was written")


def _remember_unchanged(path: Path, written_ns: int) -> None:
    """Spare the next call the reading: files were touched, or copied without their times."""
    files = path.rglob("*") if path.is_dir() else [path]
    for file in files:
        if file.is_file() and file.stat().st_mtime_ns > written_ns:
            with suppress(PermissionError):  # another's file, which the next call reads again
                os.utime(file, ns=(written_ns, written_ns))
