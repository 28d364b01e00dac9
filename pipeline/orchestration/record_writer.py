"""The record beside every result: what made it, from what, with what, where, and at what cost.

Nothing depends on a record: it is declared to no rule, and a result without one is as good.
`docs/reference/provenance.md` explains its keys.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.networks.nodes import is_one_of_several
from pipeline.orchestration.environment import device, loaded_packages, peak_resident, source_state
from pipeline.orchestration.job_files import Names
from pipeline.orchestration.record_reader import FORMAT, read_record, result_digest, result_file
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.folders import BY_DIGEST, folder_of, record_of

log = logging.getLogger(__name__)
Run = dict[str, Any]


@dataclass(frozen=True)
class JobDescription:
    """A job, as its record describes it."""

    stage: str
    dataset: str
    names: Names
    root: Path  # the folder of all results; paths in the record are relative to it
    written: list[Path]  # the files that it declares; the record is named after the first
    settings: Mapping[str, Any]  # all of the configuration that its result depends on
    seed: int
    version: int


@dataclass(frozen=True)
class Inputs:
    """Files that a job reads: results of earlier stages, and of ingest each case's raw files."""

    files: Mapping[Path, str | None]
    raw: Mapping[str, Mapping[Path, str]]


@contextmanager
def recorded(job: JobDescription, inputs: Callable[[], Inputs]) -> Iterator[None]:
    """Keep the record of a job while it runs; one that is killed or fails leaves its beginning."""
    if is_one_of_several():  # the process that has started it keeps the record
        yield
        return
    path = record_of(job.written[0])
    earlier, before = _earlier(path), _states(job.written[0])
    began, clock = datetime.now(UTC), time.monotonic()
    run = _begun(job)
    content = {
        "format": FORMAT,
        "stage": job.stage,
        "dataset": job.dataset,
        "names": dict(job.names),
        "written": os.path.relpath(job.written[0], job.root),
        "results": earlier["results"],
        "runs": {**earlier["runs"], began.isoformat(): run},
    }
    write_json(path, content)
    try:
        yield
    except BaseException:
        run["seconds"] = round(time.monotonic() - clock, 3)
        write_json(path, content)
        raise
    run |= {"finished": True, "seconds": round(time.monotonic() - clock, 3), **_cost()}
    run |= _inputs(inputs(), job.root)  # only now does ingest know the digests of what it read
    results = content["results"] = _results(job, content, before, began)
    run["made"] = sum(result["run"] == began.isoformat() for result in results.values())
    content["runs"] = _worth_keeping(content["runs"], results)
    write_json(path, content)


def input_digests(files: list[Path]) -> dict[Path, str | None]:
    """SHA-256 of files; None for a missing one."""
    return {file: file_digest(file) if file.is_file() else None for file in files}


def recorded_path(path: Path, root: Path) -> str:
    """A path as a record holds it: relative to the results, or absolute outside their project."""
    file, results = (Path(os.path.normpath(given.absolute())) for given in (path, root))
    near = file.is_relative_to(results.parent)
    return os.path.relpath(file, results) if near else str(file)


def _begun(job: JobDescription) -> Run:
    return {
        "finished": False,
        "seconds": None,
        "command": shlex.join(["grcsf", *sys.argv[1:]]),
        "settings": dict(job.settings),
        "seed": job.seed,
        "version": job.version,
        "source": source_state(),
    }


def _cost() -> Run:
    where, gpu_bytes = device()
    return {
        "peak_memory_bytes": peak_resident(),
        "peak_gpu_memory_bytes": gpu_bytes,
        "device": where,
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": loaded_packages(),
    }


def _inputs(inputs: Inputs, root: Path) -> Run:
    def recorded(files: Mapping[Path, str | None]) -> dict[str, str | None]:
        return {recorded_path(file, root): digest for file, digest in files.items()}

    raw = {case: recorded(files) for case, files in inputs.raw.items()}
    return {"inputs": recorded(inputs.files)} | ({"raw_files": raw} if raw else {})


def _earlier(path: Path) -> dict[str, Any]:
    """What the record says so far; nothing where there is none of this format."""
    content = None
    try:
        content = read_record(path) if path.exists() else None
    except PipelineError as error:
        log.warning("%s; begun anew", error)
    return content or {"runs": {}, "results": {}}


def _listed(job: JobDescription) -> list[str]:
    """The job's files and all that the first of them lists, relative to its folder."""
    folder = job.written[0].parent
    names = [os.path.relpath(file, folder) for file in job.written]
    for file in job.written:
        if file.suffix == ".json" and file.is_file():
            names += read_json(file).get("outputs", [])
    return list(dict.fromkeys(names))


def _states(declared: Path) -> dict[str, tuple[int, int] | None]:
    """Inode and time, which change when a file is written anew, of all that lies beside results."""
    folders = [declared.parent, folder_of(declared)]
    paths = [
        path for each in folders for below in ("*", f"{BY_DIGEST}/*") for path in each.glob(below)
    ]
    return {os.path.relpath(path, declared.parent): _state(path) for path in paths}


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = result_file(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _results(
    job: JobDescription,
    content: Mapping[str, Any],
    before: Mapping[str, tuple[int, int] | None],
    began: datetime,
) -> dict[str, Any]:
    """Every result of a job, with its SHA-256 and its run; `before` has the earlier `_states`."""
    earlier, runs = content["results"], content["runs"]
    cut_off = max((key for key, run in runs.items() if not run["finished"]), default=None)
    results = {}
    for name in _listed(job):
        path = job.written[0].parent / name
        digest = result_digest(path)
        # another project's job may have made the target of a link
        linked = path.is_symlink() and result_file(path).stat().st_mtime < began.timestamp()
        if _state(path) != before.get(name) and not linked:
            results[name] = {"sha256": digest, "run": began.isoformat()}
        elif name in earlier and earlier[name]["sha256"] == digest:
            results[name] = earlier[name]
        else:  # None where no run of this record made it
            results[name] = {"sha256": digest, "run": None if linked else cut_off}
    manifest = job.written[0].name
    lists = len(results) > len(job.written)
    # runs that make nothing write the same manifest again
    if lists and manifest in earlier and earlier[manifest]["sha256"] == results[manifest]["sha256"]:
        results[manifest] = earlier[manifest]
    return results


def _worth_keeping(
    runs: Mapping[str, Run], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Run]:
    """The last run, those that made what is there, and those cut off on whose work they built."""
    made = {result["run"] for result in results.values()}
    kept: dict[str, Run] = {}
    following = True
    for key in sorted(runs, reverse=True):
        following = not kept or key in made or (following and not runs[key]["finished"])
        if following:
            kept[key] = runs[key]
    return dict(sorted(kept.items()))
