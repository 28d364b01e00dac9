"""Manifests that no longer tell the truth.

A job's declared output is a manifest; the stores, models and masks that it lists under `outputs`
are not declared, because Snakemake deletes the declared outputs of a job that fails. So Snakemake
cannot miss a store that somebody deleted or edited. A call looks for itself: the job of a manifest
whose outputs have vanished, or hold something else than its stage wrote, is planned whatever
Snakemake thinks of it, and makes only what is missing. Looking changes nothing: what was edited is
set aside when its job is about to begin. The workflow asks for every manifest by name, because
Snakemake does not miss a file between others that are up to date.

A split, scores and tables list nothing and are looked at themselves: `pipeline/small_results.py`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.orchestration.record_reader import read_record
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.layout import Layout, is_record, mask_note, record_of
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import verify_store

MANIFESTS = (
    "ingest/manifest.json",
    "train_mae/*.json",
    "residual_maps/*/*.json",
    "train_segmentation/*/*.json",
    "predict/*/*.json",
    "postprocess/*/*.json",
)


@dataclass(frozen=True)
class ChangedResult:
    """A manifest, or a small result, whose job has to run, and why.

    Attributes:
        manifest: the first file that the job declares.
        told: a line for all outputs that are not there, and one for each that is not as it was
            made.
    """

    manifest: Path
    told: tuple[str, ...]


def changed_results(layout: Layout, running: Collection[str] = ()) -> list[ChangedResult]:
    """A data set's manifests that list an output which is not there, or not as it was made.

    Among them are a split, scores and tables that were edited.

    An output that was changed since its manifest was written is read and compared with its digest.
    A manifest that cannot be read, or that does not say what its outputs are, is among them: its
    stage writes it anew.

    Args:
        layout: of the data set.
        running: works of stages that still run, whose own outputs are left alone.

    Raises:
        PipelineError: a store of a shared folder is damaged, or a store or file cannot be read.
    """
    folder = layout.root / layout.dataset
    patterns = (*MANIFESTS, *SMALL_RESULTS)
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    ours = (one for one in paths if not is_record(one) and layout.work_of(one) not in running)
    found = (ChangedResult(path, tuple(_faults(path))) for path in ours)
    return [one for one in found if one.told]


def set_aside(manifest: Path) -> list[str]:
    """Rename what is not as it was made, an output or the file itself, for its stage to miss it.

    The hidden name is one that `grcsf store prune` finds. A manifest stays: until its job has
    run, it tells what is missing.

    Returns:
        A line for each output.
    """
    lines = []
    small = is_small_result(manifest)
    changed = _edited(manifest) if small else _changed(manifest, _outputs(manifest) or {})
    for path, reason in changed:
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.old")
        path.rename(aside)
        lines.append(f"set aside as {aside.name}: {reason}")
    return lines


def withdraw(manifest: Path) -> list[str]:
    """Delete a manifest that no job of a configuration writes anew, if it still is not true.

    Returns:
        A line for it, and one for each output that is set aside.
    """
    if not any(_faults(manifest)):
        return []
    lines = set_aside(manifest)
    manifest.unlink(missing_ok=True)
    return [*lines, f"withdrawn, as no job of this configuration makes it: {manifest}"]


def _faults(manifest: Path) -> Iterator[str]:
    if is_small_result(manifest):
        yield from (f"not as it was made: {reason}" for _, reason in _edited(manifest))
        return
    outputs = _outputs(manifest)
    if outputs is None:
        if manifest.exists():
            yield f"damaged, it does not say what its job has made: {manifest}"
        return
    for _, reason in _changed(manifest, outputs):
        yield f"not as it was made: {reason}"
    missing = [path for path in outputs if not path.exists()]
    if missing:
        further = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"no longer there, though {manifest} lists it: {missing[0]}{further}"


def _outputs(manifest: Path) -> dict[Path, dict[str, Any]] | None:
    """The outputs that a manifest lists, with its content; None where it lists none."""
    try:
        content = json.loads(manifest.read_text("utf-8"))
        return {manifest.parent / output: content for output in content["outputs"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise _unreadable(manifest, error) from error


def _edited(declared: Path) -> Iterator[tuple[Path, str]]:
    try:
        yield from edited(declared)
    except OSError as error:
        raise _unreadable(declared, error) from error


def _changed(manifest: Path, outputs: Mapping[Path, dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    """The outputs that are not as they were made, each with what is wrong with it.

    Another call may end at this moment, and replace or delete what is looked at.
    """
    for path, content in outputs.items():
        try:
            written_ns = manifest.stat().st_mtime_ns
            if _changed_ns(path) <= written_ns:
                continue
            _verify(path, content)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error) from error
        except UntouchableError:
            raise
        except PipelineError as error:
            if not path.exists():
                continue
            if path.is_symlink():
                raise
            yield path, str(error).partition("; delete")[0]
        else:
            _remember_unchanged(path, written_ns)


def _changed_ns(path: Path) -> int:
    """When the newest of an output's files was written, or one was removed."""
    inside = (
        Path(folder, name) for folder, folders, files in os.walk(path) for name in folders + files
    )
    return max(one.stat().st_mtime_ns for one in (path, *inside))


def _verify(path: Path, content: Mapping[str, Any]) -> None:
    """Raises PipelineError where an output is not what its stage wrote."""
    if path.suffix == ".zarr":
        verify_store(path)
        return
    if "weights_sha256" in content:
        expected = content["weights_sha256"]
    else:
        cases = content.get("cases", {})
        named = [case for case, one in cases.items() if one.get("file") == path.name]
        expected = read_json(mask_note(path, named[0]))["sha256"] if named else None
    if file_digest(path) != expected:
        raise PipelineError(f"{path}: has changed since it was written")


def _unreadable(path: Path, error: OSError) -> PipelineError:
    reason = error.strerror or type(error).__name__
    return PipelineError(f"{error.filename or path}: {reason}; expected a readable file")


def _remember_unchanged(path: Path, written_ns: int) -> None:
    """Spare the next call the reading: files were touched, or copied without their times."""
    for file in [path, *path.rglob("*")]:
        # another's file, which the next call reads again; or one that is just being replaced
        with suppress(PermissionError, FileNotFoundError):
            if file.stat().st_mtime_ns > written_ns:
                os.utime(file, ns=(written_ns, written_ns))


# the first file that a job declares, which names its record
SMALL_RESULTS = ("split/split.json", "evaluate/*.csv", "compare/table.md", "tabulate/*.md")


def is_small_result(declared: Path) -> bool:
    """Whether a job's first file is a split, scores or a table, and lists nothing."""
    return any(declared.match(pattern) for pattern in SMALL_RESULTS)


def edited(declared: Path) -> Iterator[tuple[Path, str]]:
    """A job's files that are not as its record has them, each with what is wrong with it.

    Args:
        declared: the first of them.

    Raises:
        OSError: a file is not readable.
    """
    for name, digest in _recorded(declared).items():
        path = declared.with_name(name)
        try:
            changed = file_digest(path) != digest
        except FileNotFoundError:  # which Snakemake misses by itself
            continue
        if changed:
            yield path, f"{path}: has changed since it was written"


def _recorded(declared: Path) -> dict[str, str]:
    """SHA-256 of every file that a job has written; of none where that is not known."""
    try:
        content = read_record(record_of(declared))
    except PipelineError:  # nothing depends on a record: a missing or damaged one stops no plan
        return {}
    # a run that was cut off has noted nothing of what it wrote
    if content is None or not content["runs"][max(content["runs"])]["finished"]:
        return {}
    return {
        name: one["sha256"]
        for name, one in content["results"].items()
        if Path(name).stem == declared.stem and one["sha256"]
    }
