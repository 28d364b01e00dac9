"""Results that are no longer as their job wrote them: deleted, edited or damaged since.

Snakemake knows the manifest that a job declares, not the stores, models and masks listed in it, so
every call compares these, and plans the job of one that is gone or changed. Nothing is written: an
edited output is set aside when its job begins. A split, scores and tables list nothing and are
compared with their record. The workflow asks for every manifest by name, because Snakemake does not
miss a file between others that are up to date.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.orchestration.record_reader import read_record
from pipeline.settings.paths import file_refusal
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import mask_note, record_of
from pipeline.storage.layout import RESULTS, Layout
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import verify_store


@dataclass(frozen=True)
class ChangedResult:
    """A manifest, or a small result, of which something differs from what its job wrote."""

    manifest: Path  # or the first file that the job declares
    edited: Mapping[Path, str] = field(default_factory=dict)  # output → what is wrong with it
    lost: str = ""  # a line for all missing outputs, or for a manifest that lists nothing
    # outputs newer than the manifest, but unchanged, and the newest time in each, in ns
    touched: Mapping[Path, int] = field(default_factory=dict)

    @property
    def messages(self) -> list[str]:
        """Why the job has to run, line by line; none where outputs were only touched."""
        lines = [f"not as it was made: {reason}" for reason in self.edited.values()]
        return [*lines, self.lost] if self.lost else lines


def changed_results(layout: Layout, running: Collection[str] = ()) -> list[ChangedResult]:
    """Compare a data set's results with their manifests and records; nothing is written.

    Only outputs that are newer than their manifest are read. A manifest without outputs counts as
    changed. Results of works that are still `running` are left alone.

    Raises:
        PipelineError: a store of a shared folder is damaged, or a store or file cannot be read.
    """
    paths = sorted({path for _, path in layout.existing("manifest", "small")})
    compared = [_compared(path) for path in paths if layout.work_of(path) not in running]
    return [result for result in compared if result.messages or result.touched]


def set_aside(manifest: Path) -> list[str]:
    """Rename edited or damaged outputs, as `grcsf store prune` finds them; a line for each.

    A manifest stays: until its job has run, it tells what is missing.
    """
    lines = []
    for path, reason in _compared(manifest).edited.items():
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.old")
        path.rename(aside)
        lines.append(f"set aside as {aside.name}: {reason}")
    return lines


def withdraw(manifest: Path) -> list[str]:
    """Delete a manifest that no job writes anew, if it is still not true; say so in lines."""
    if not _compared(manifest).messages:
        return []
    lines = set_aside(manifest)
    manifest.unlink(missing_ok=True)
    return [*lines, f"withdrawn, as no job of this configuration makes it: {manifest}"]


def restore_times(result: ChangedResult) -> None:
    """Spare the next plan the reading of outputs that were only touched, and not written since."""
    for path, newest in result.touched.items():
        with suppress(PermissionError, FileNotFoundError):  # another's, or just being replaced
            written, unchanged = result.manifest.stat().st_mtime_ns, _newest_change(path) == newest
            for file in [path, *path.rglob("*")] if unchanged else []:
                if file.stat().st_mtime_ns > written:
                    os.utime(file, ns=(written, written))


def _compared(manifest: Path) -> ChangedResult:
    kinds = {each.kind for each in RESULTS if manifest.match(f"{each.stage}/{each.pattern}")}
    told = dict(_edited_small(manifest)) if "small" in kinds else {}
    if told or "manifest" not in kinds:
        return ChangedResult(manifest, told)
    if (outputs := _outputs(manifest)) is None:
        line = f"damaged, it does not say what its job has made: {manifest}"
        return ChangedResult(manifest, lost=line if manifest.exists() else "")
    edited, touched = _edited_and_touched(manifest, outputs)
    missing = [path for path in outputs if not path.exists()]
    further = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    lost = f"no longer there, though {manifest} lists it: {missing[0]}{further}" if missing else ""
    return ChangedResult(manifest, edited, lost, touched)


def _outputs(manifest: Path) -> dict[Path, dict[str, Any]] | None:
    """The outputs that a manifest lists, with its content; None where it lists none."""
    try:
        _refuse_other_kinds(manifest)
        content = json.loads(manifest.read_text("utf-8"))
        return {manifest.parent / output: content for output in content["outputs"]}
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None
    except OSError as error:
        raise _unreadable(manifest, error) from error


def _edited_and_touched(
    manifest: Path, outputs: Mapping[Path, dict[str, Any]]
) -> tuple[dict[Path, str], dict[Path, int]]:
    """See `ChangedResult`. Another call may end at this moment, and replace what is compared."""
    edited: dict[Path, str] = {}
    touched: dict[Path, int] = {}
    for path, content in outputs.items():
        try:
            newest = _newest_change(path)
            if newest > manifest.stat().st_mtime_ns:
                _verify(path, content)
                touched[path] = newest
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error) from error
        except PipelineError as error:
            # a shared store, or one that may be sound, is left to a person
            if isinstance(error, UntouchableError) or (path.is_symlink() and path.exists()):
                raise
            if path.exists():
                edited[path] = str(error).partition("; delete")[0]
    return edited, touched


def _newest_change(path: Path) -> int:
    """When the newest of an output's files was written, or one was removed, in ns."""
    walk = os.walk(path)
    inside = (Path(folder, name) for folder, folders, files in walk for name in folders + files)
    return max(part.stat().st_mtime_ns for part in (path, *inside))


def _verify(path: Path, content: Mapping[str, Any]) -> None:
    """Raises PipelineError where an output is not what its stage wrote."""
    if path.suffix == ".zarr":
        verify_store(path)
        return
    if "weights_sha256" in content:
        expected = content["weights_sha256"]
    else:
        cases = content.get("cases")
        named = [
            name
            for name, case in (cases.items() if isinstance(cases, dict) else ())
            if isinstance(case, dict) and Path(str(case.get("file"))).name == path.name
        ]
        expected = read_json(mask_note(path, named[0]))["sha256"] if named else None
    if file_digest(path) != expected:
        raise PipelineError(f"{path}: has changed since it was written")


def _refuse_other_kinds(path: Path) -> None:
    """A folder, a pipe or a device in place of a result: neither read nor thrown away."""
    refusal = file_refusal(path)
    if refusal.startswith("found "):
        raise PipelineError(f"{path}: {refusal}; delete it and run again")


def _unreadable(path: Path, error: OSError) -> PipelineError:
    reason = error.strerror or type(error).__name__
    return PipelineError(f"{error.filename or path}: {reason}; expected a readable file")


def _edited_small(declared: Path) -> Iterator[tuple[Path, str]]:
    """A job's files that are not as its record has them, each with what is wrong with it."""
    for name, digest in _recorded(declared).items():
        path = declared.with_name(name)
        _refuse_other_kinds(path)
        try:
            if file_digest(path) != digest:
                yield path, f"{path}: has changed since it was written"
        except FileNotFoundError:  # which Snakemake misses by itself
            continue
        except OSError as error:
            raise _unreadable(path, error) from error


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
        name: result["sha256"]
        for name, result in content["results"].items()
        if Path(name).stem == declared.stem and result["sha256"]
    }
