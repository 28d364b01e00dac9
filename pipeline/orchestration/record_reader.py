"""The records beside results: which of them is about a file, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import RECORD, is_record
from pipeline.storage.zarr_faults import UntouchableError
from pipeline.storage.zarr_store import DIGEST, store_attributes

FORMAT = 1
PARTS = {"stage": str, "dataset": str, "names": dict, "written": str, "results": dict, "runs": dict}
RESULT = {"sha256", "run"}
RUN = {"finished", "settings", "seed", "version", "source"}
FINISHED_RUN = {"inputs", "seconds", "peak_memory_bytes", "device"}
NOT_RECORDED = ("logs", "benchmarks", "running", "check")


def read_record(path: Path) -> dict[str, Any] | None:
    """The content of a record; None where it is of another format.

    Raises:
        PipelineError: it is damaged.
    """
    content = read_json(path)
    if content.get("format") != FORMAT:
        return None
    missing = [part for part, kind in PARTS.items() if not isinstance(content.get(part), kind)]
    if not missing:
        wanted = [("results", content["results"], RESULT), ("runs", content["runs"], RUN)]
        wanted += [("runs", finished_runs(content), FINISHED_RUN)]
        missing = [
            f"{part}.{name}"
            for part, rows, keys in wanted
            for name, row in rows.items()
            if not isinstance(row, dict) or not keys <= row.keys()
        ]
        missing += [] if content["runs"] else ["runs"]
    if missing:
        fault = f"damaged, found no whole {missing[0]!r}, expected it in a record"
        raise PipelineError(f"{path}: {fault}; delete the record and run its stage again")
    return content


def finished_runs(content: Mapping[str, Any]) -> dict[str, Any]:
    """The runs of a record that were neither cut off nor failed, by the time they began."""
    runs = content["runs"].items()
    return {began: run for began, run in runs if isinstance(run, dict) and run.get("finished")}


def find_record(path: Path) -> Path | None:
    """The record of the job that made a file, a store or a part of one; None if there is none.

    Of several that list it, as batches of another number do, the one whose digest fits counts, else
    the newest. A file that no record lists belongs to the job of its folder.
    """
    candidates = []
    for folder in path.parents:
        relative = path.relative_to(folder).as_posix()
        for record in sorted(folder.glob(f"*{RECORD}")):
            content = read_record(record)
            if content is None:
                continue
            name = recorded_result(path, record, content)
            beside = relative.startswith(f"{record.name.removesuffix(RECORD)}/")
            if name or beside or content["stage"] == "phantom":
                digest = content["results"][name]["sha256"] if name else ""
                current = result_digest(folder / name) == digest
                candidates.append((bool(name), current, max(content["runs"]), record))
        if candidates:
            return max(candidates)[-1]
    return None


def recorded_result(path: Path, record: Path, content: Mapping[str, Any]) -> str:
    """The name of the recorded result that a file is or lies in, or ""."""
    if not path.is_relative_to(record.parent):
        return ""
    relative = path.relative_to(record.parent).as_posix()
    return next((name for name in content["results"] if f"{relative}/".startswith(f"{name}/")), "")


def is_compared(path: Path, result: Path) -> bool:
    """Whether a file that is or lies in a result is read when that result is compared."""
    if path == result or result.suffix != ".zarr":
        return path == result
    attributes = None
    with suppress(UntouchableError):
        attributes = store_attributes(result)
    if attributes is None:  # the comparison reports it
        return True
    array, *rest = path.relative_to(result).parts
    if array == "zarr.json":
        return True
    shard = rest[:1] == ["c"] and set(rest[1:]) <= {"0"}
    return f"{DIGEST}{array}" in attributes and (shard or rest in ([], ["zarr.json"]))


def result_file(path: Path) -> Path:
    """The file whose SHA-256 stands for a result: of a store the one with its values' digests."""
    return path / "zarr.json" if path.suffix == ".zarr" else path


def result_digest(path: Path) -> str | None:
    """SHA-256 of the file that stands for a result; None where it is gone."""
    file = result_file(path)
    return file_digest(file) if file.is_file() else None


def no_record_error(file: Path, path: Path) -> PipelineError:
    """The error for a file without record, with what can be done for one of its kind."""
    if is_record(path):
        named = path.parent.glob(f"{path.name.removesuffix(RECORD)}.*")
        beside = " or ".join(sorted(file.name for file in named if not is_record(file)))
        remedy = f"name the one beside it{f', {beside}' if beside else ''}"
        return PipelineError(f"{file}: is itself a record, expected a result; {remedy}")
    for folder in path.parents:
        if folder.name in NOT_RECORDED and (folder.parent / "ingest").is_dir():
            fault = f"no record is kept of {folder.name}/, expected the result of a stage"
            remedy = f"name one of {folder.parent.name}/, such as compare/table.md"
            return PipelineError(f"{file}: {fault}; {remedy}")
        for record in sorted(folder.glob(f"*{RECORD}")):
            relative, stem = path.relative_to(folder).as_posix(), record.name.removesuffix(RECORD)
            version = read_json(record).get("format")
            if relative.startswith((f"{stem}.", f"{stem}/")) and version != FORMAT:
                return PipelineError(
                    f"{file}: its record {record.name} has format {version!r}, expected {FORMAT}; "
                    "run its stage again with this version, or trace it with the one that wrote it"
                )
    expected = "expected a result below results/ that a stage has made since records are kept"
    return PipelineError(f"{file}: no record tells of it; {expected}; run its stage again")
