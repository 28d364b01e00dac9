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
    """What a job does, as its record tells it.

    Attributes:
        stage: the stage's name.
        dataset: the data set's.
        names: what else it is about.
        root: the folder of all results; paths in the record are relative to it.
        written: its files, without those that the first of them lists; it names the record.
        settings: all of the configuration that its result depends on.
        seed: of all that is drawn.
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
def recorded(work: JobDescription, inputs: Callable[[], Inputs]) -> Iterator[None]:
    """Keep the record of a job around its work.

    A run that made nothing, because all was there, leaves what is told of the runs that did. One
    that is killed or fails leaves its beginning.

    Args:
        work: what the job does.
        inputs: asked when it is done, for ingest only then knows the digests of what it read.
    """
    if is_one_of_several():  # the process that has started it keeps the record
        yield
        return
    path = record_of(work.written[0])
    earlier = _earlier(path)
    before = _states(work.written[0])
    began, clock = datetime.now(UTC), time.monotonic()
    run = _begun(work)
    content = {
        "format": FORMAT,
        "stage": work.stage,
        "dataset": work.dataset,
        "names": dict(work.names),
        "written": os.path.relpath(work.written[0], work.root),
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
    run |= _input_digests(inputs(), work.root)
    content["results"] = _made(work, earlier["results"], before, content["runs"], began)
    run["made"] = sum(one["run"] == began.isoformat() for one in content["results"].values())
    content["runs"] = _worth_keeping(content["runs"], content["results"])
    write_json(path, content)


def input_digests(files: list[Path]) -> dict[Path, str | None]:
    """SHA-256 of files; None of one that is not there."""
    return {file: file_digest(file) if file.is_file() else None for file in files}


def told_path(path: Path, root: Path) -> str:
    """A path as a record has it: relative to the results, or absolute where it lies elsewhere."""
    whole, results = (Path(os.path.normpath(one.absolute())) for one in (path, root))
    near = whole.is_relative_to(results.parent)
    return os.path.relpath(whole, results) if near else str(whole)


def _begun(work: JobDescription) -> Run:
    return {
        "finished": False,
        "seconds": None,
        "command": shlex.join(["grcsf", *sys.argv[1:]]),
        "settings": dict(work.settings),
        "seed": work.seed,
        "version": work.version,
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
    found: Run = {
        "inputs": {told_path(file, root): digest for file, digest in inputs.files.items()}
    }
    if inputs.raw:
        found["raw_files"] = {
            case: {told_path(file, root): digest for file, digest in files.items()}
            for case, files in inputs.raw.items()
        }
    return found


def _earlier(path: Path) -> dict[str, Any]:
    """What the record says so far; nothing where there is none of this form."""
    nothing: dict[str, Any] = {"runs": {}, "results": {}}
    if not path.exists():
        return nothing
    try:
        return read_record(path) or nothing
    except PipelineError as error:
        log.warning("%s; begun anew", error)
        return nothing


def _results(work: JobDescription) -> list[str]:
    """The job's files and all that the first of them lists, relative to its folder."""
    folder = work.written[0].parent
    listed: list[str] = []
    for file in work.written:
        if file.suffix == ".json" and file.is_file():
            try:
                listed += read_json(file).get("outputs", [])
            except PipelineError:  # the stage, which is about to write it, need not read it
                continue
    return list(dict.fromkeys([*(os.path.relpath(file, folder) for file in work.written), *listed]))


def _states(declared: Path) -> dict[str, tuple[int, int] | None]:
    """What changes of a result when it is written anew, of all that lies where results will."""
    places = [place for place in (declared.parent, folder_of(declared)) if place.is_dir()]
    found = [path for place in places for path in place.iterdir()]
    return {os.path.relpath(path, declared.parent): _state(path) for path in found}


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = result_file(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _made(
    work: JobDescription,
    earlier: Mapping[str, Any],
    before: Mapping[str, tuple[int, int] | None],
    runs: Mapping[str, Run],
    began: datetime,
) -> dict[str, Any]:
    """Every result with its SHA-256 and the run that made it."""
    folder, names = work.written[0].parent, _results(work)
    found = {
        name: _result(folder / name, earlier.get(name), before.get(name), runs, began)
        for name in names
    }
    manifest = work.written[0].name
    lists = len(names) > len(work.written)
    # a list of what is there already is written anew by runs that make nothing
    if lists and manifest in earlier and earlier[manifest]["sha256"] == found[manifest]["sha256"]:
        found[manifest] = earlier[manifest]
    return found


def _result(
    path: Path,
    earlier: Mapping[str, Any] | None,
    before: tuple[int, int] | None,
    runs: Mapping[str, Run],
    began: datetime,
) -> dict[str, Any]:
    """A result's SHA-256 and the run that made it; None where no run of this record did."""
    digest = result_digest(path)
    # another project's job may have made what a link leads to
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

    What a run that was cut off has done, the next one need not have done again.
    """
    made = {one["run"] for one in results.values()}
    kept: dict[str, Run] = {}
    following = True
    for key in sorted(runs, reverse=True):
        keep = not kept or key in made or (following and not runs[key]["finished"])
        if keep:
            kept[key] = runs[key]
        following = keep
    return dict(sorted(kept.items()))
