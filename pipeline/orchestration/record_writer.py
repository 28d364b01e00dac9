"""The record beside every result: what made it, from what, with what, where, and at what cost.

`…/name.json` has its record in `…/name.provenance.json`. Nothing depends on a record: it is
declared to no rule, and a result without one is as good. `docs/provenance.md` explains its keys.
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
from pipeline.storage.layout import folder_of, record_of

log = logging.getLogger(__name__)
Run = dict[str, Any]


@dataclass(frozen=True)
class JobDescription:
    """A job, as its record describes it.

    Attributes:
        stage: the stage's name.
        dataset: the data set's.
        names: its experiment, subset, … beside the data set.
        root: the folder of all results; paths in the record are relative to it.
        written: the files that it declares; the record is named after the first.
        settings: all of the configuration that its result depends on.
        seed: of all random numbers.
        version: the stage's `VERSION`.
    """

    stage: str
    dataset: str
    names: Names
    root: Path
    written: list[Path]
    settings: Mapping[str, Any]
    seed: int
    version: int


@dataclass(frozen=True)
class Inputs:
    """Files that a job reads: results of earlier stages, and of ingest each case's raw files."""

    files: Mapping[Path, str | None]
    raw: Mapping[str, Mapping[Path, str]]


@contextmanager
def recorded(job: JobDescription, inputs: Callable[[], Inputs]) -> Iterator[None]:
    """Keep the record of a job while it runs.

    A run that finds everything made leaves the runs that made it. One that is killed or fails
    leaves its beginning.

    Args:
        job: what it does.
        inputs: called at the end, because ingest only then knows the digests of what it read.
    """
    if is_one_of_several():  # the process that has started it keeps the record
        yield
        return
    path = record_of(job.written[0])
    earlier = _earlier(path)
    before = _states(job.written[0])
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
    run |= _input_digests(inputs(), job.root)
    content["results"] = _made(job, earlier["results"], before, content["runs"], began)
    run["made"] = sum(made["run"] == began.isoformat() for made in content["results"].values())
    content["runs"] = _worth_keeping(content["runs"], content["results"])
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


def _input_digests(inputs: Inputs, root: Path) -> Run:
    digests: Run = {
        "inputs": {recorded_path(file, root): digest for file, digest in inputs.files.items()}
    }
    if inputs.raw:
        digests["raw_files"] = {
            case: {recorded_path(file, root): digest for file, digest in files.items()}
            for case, files in inputs.raw.items()
        }
    return digests


def _earlier(path: Path) -> dict[str, Any]:
    """What the record says so far; nothing where there is none of this format."""
    nothing: dict[str, Any] = {"runs": {}, "results": {}}
    if not path.exists():
        return nothing
    try:
        return read_record(path) or nothing
    except PipelineError as error:
        log.warning("%s; begun anew", error)
        return nothing


def _results(job: JobDescription) -> list[str]:
    """The job's files and all that the first of them lists, relative to its folder."""
    folder = job.written[0].parent
    listed: list[str] = []
    for file in job.written:
        if file.suffix == ".json" and file.is_file():
            try:
                listed += read_json(file).get("outputs", [])
            except PipelineError:  # damaged, and the stage is about to write it
                continue
    return list(dict.fromkeys([*(os.path.relpath(file, folder) for file in job.written), *listed]))


def _states(declared: Path) -> dict[str, tuple[int, int] | None]:
    """Inode and time, which change when a file is written anew, of all that lies beside results."""
    places = [place for place in (declared.parent, folder_of(declared)) if place.is_dir()]
    paths = [path for place in places for path in place.iterdir()]
    return {os.path.relpath(path, declared.parent): _state(path) for path in paths}


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = result_file(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _made(
    job: JobDescription,
    earlier: Mapping[str, Any],
    before: Mapping[str, tuple[int, int] | None],
    runs: Mapping[str, Run],
    began: datetime,
) -> dict[str, Any]:
    """Every result with its SHA-256 and the run that made it."""
    folder, names = job.written[0].parent, _results(job)
    results = {
        name: _result(folder / name, earlier.get(name), before.get(name), runs, began)
        for name in names
    }
    manifest = job.written[0].name
    lists = len(names) > len(job.written)
    # runs that make nothing write the same manifest again
    if lists and manifest in earlier and earlier[manifest]["sha256"] == results[manifest]["sha256"]:
        results[manifest] = earlier[manifest]
    return results


def _result(
    path: Path,
    earlier: Mapping[str, Any] | None,
    before: tuple[int, int] | None,
    runs: Mapping[str, Run],
    began: datetime,
) -> dict[str, Any]:
    """A result's SHA-256 and the run that made it; None where no run of this record did."""
    digest = result_digest(path)
    # another project's job may have made the target of a link
    linked = path.is_symlink() and result_file(path).stat().st_mtime < began.timestamp()
    if _state(path) != before and not linked:
        return {"sha256": digest, "run": began.isoformat()}
    if earlier is not None and earlier["sha256"] == digest:
        return dict(earlier)
    cut_off = [key for key, run in runs.items() if not run["finished"]]
    return {"sha256": digest, "run": None if linked else max(cut_off, default=None)}


def _worth_keeping(
    runs: Mapping[str, Run], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Run]:
    """The runs that made what is there, the last one, and those cut off before one of them.

    A run goes on where the one before it was cut off, so its results are partly that one's work.
    """
    made = {result["run"] for result in results.values()}
    kept: dict[str, Run] = {}
    following = True
    for key in sorted(runs, reverse=True):
        keep = not kept or key in made or (following and not runs[key]["finished"])
        if keep:
            kept[key] = runs[key]
        following = keep
    return dict(sorted(kept.items()))
