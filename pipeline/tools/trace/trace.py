"""`grcsf trace`: follows a result back to the raw files, through the records beside all results.

It compares every file on the way with its record. If all of them match, the chain shows what really
made the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.orchestration.record_reader import (
    find_record,
    finished_runs,
    is_compared,
    no_record_error,
    read_record,
    recorded_result,
    result_digest,
    result_file,
)
from pipeline.storage.batches import batches_in
from pipeline.storage.folders import RECORD, is_record, record_of
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import verify_store
from pipeline.tools.trace.lineage import Chain, Link, State, Step
from pipeline.tools.trace.patients import OF_A_CASE, case_of, cases_of, is_about_its_case

# stages whose results have the experiment's name
OF_SEVERAL = ("compare", "tabulate", "draw", "report")  # stages that read of several experiments
OF_EXPERIMENTS = ("train_segmentation", "predict", "postprocess", "evaluate")


def trace(
    file: Path,  # any file or store below `results`
    case: str = "",  # follow this patient alone; a store or mask has its own
    only: tuple[str, ...] = (),  # follow these experiments of a table alone
    *,
    quick: bool = False,  # check only that stores, models, masks and raw files exist
    tell: Callable[[str], object] = str,
) -> Chain:
    """Follow a result, and compare every file on the way with its record.

    Raises:
        PipelineError: there is no such file, it has no record, or it does not hold the case.
    """
    if not file.exists():
        raise PipelineError(f"{file}: not there; expected a file or store below results/")
    path = Path(os.path.normpath(file.absolute()))
    record = None if is_record(path) else find_record(path)
    content = None if record is None else read_record(record)
    if record is None or content is None:
        raise no_record_error(file, path)
    own = case_of(path, record, content)
    if case and own not in ("", case):
        raise PipelineError(f"--case: found {case!r}, but {file} is of {own!r}; leave --case")
    upwards = os.path.relpath(".", Path(content["written"]).parent)
    root = Path(os.path.normpath(record.parent / upwards))
    chain = Chain(root, case or own, quick, only, tell=tell)
    _follow(chain, record)
    _find_asked(chain, path, record)
    named = {step.content["names"].get("experiment") for step in chain.steps.values()}
    for experiment in only:
        if experiment not in named:
            raise PipelineError(f"--experiment: {file} has nothing of {experiment!r}")
    if case and not is_about_its_case(chain):
        raise PipelineError(f"--case: {file} has nothing of a case {case!r}")
    return chain


def _find_asked(chain: Chain, path: Path, record: Path) -> None:
    """Set `chain.asked`, and add the file to its job's results if the record does not list it."""
    step = chain.first
    name = recorded_result(path, record, step.content)
    result = record.parent / name
    known = bool(name) and is_compared(path, result)
    chain.asked = os.path.relpath(result if known else path, chain.root)
    if not known:
        unknown = Link(chain.asked, None, "no record of its content")
        step.results.append(_ingested(chain, path) or unknown)
    elif all(link.file != chain.asked for link in step.results):
        digest = step.content["results"][name]["sha256"]
        step.results.append(Link(chain.asked, digest, _state(chain, result, digest)))


def _ingested(chain: Chain, path: Path) -> Link | None:
    """The link of a phantom's file: its digest stands in the record of ingest, not in its own."""
    if chain.first.content["stage"] != "phantom":
        return None
    layout = Layout(chain.root, chain.first.content["dataset"])
    for manifest in (layout.cases, *batches_in(layout.stage("ingest"))):
        for case, files in _raw_files(record_of(manifest)).items():
            for name, digest in files.items():
                if _on_disk(chain, name) == path:
                    return Link(chain.asked, digest, _state(chain, path, digest), case)
    return None


def _raw_files(record: Path) -> Mapping[str, Mapping[str, str]]:
    """The raw files of each case that the last finished run of a job has read, with digests."""
    content = read_record(record) if record.is_file() else None
    runs = {} if content is None else finished_runs(content)
    raw: Mapping[str, Mapping[str, str]] = runs[max(runs)].get("raw_files", {}) if runs else {}
    return raw


def _follow(chain: Chain, record: Path) -> str:
    """Add a job and all jobs before it to the chain; return its key there."""
    key = os.path.relpath(record, chain.root)
    if key in chain.steps:
        return key
    content = read_record(record)
    assert content is not None  # find_record skips records of another format
    step = chain.steps[key] = Step(key, content)
    step.results = list(_result_links(chain, record, content))
    runs = finished_runs(content)
    if not runs:
        step.results.append(Link(content["written"], None, "no record"))
        return key
    latest = runs[max(runs)]
    sources = list(_follow_inputs(chain, step, latest["inputs"]))
    sources += _follow_raw(chain, step, latest.get("raw_files", {}))
    behind = {key for source in sources for key in _behind(chain, source)}
    step.sources = [source for source in dict.fromkeys(sources) if source not in behind]
    return key


def _follow_inputs(chain: Chain, step: Step, inputs: Mapping[str, str | None]) -> Iterator[str]:
    """Compare the earlier results that a job read, and yield the jobs that made them."""
    for name, digest in inputs.items():
        path = _on_disk(chain, name)
        if not _wanted(chain, step.content["stage"], path):
            continue
        link = Link(name, digest, _state(chain, path, digest))
        if not path.is_relative_to(chain.root):
            step.raw.append(link)
            continue
        before = find_record(path)
        unknown = before is None and link.holds
        step.inputs.append(Link(name, digest, "no record") if unknown else link)
        if before is not None:
            yield _follow(chain, before)


def _follow_raw(chain: Chain, step: Step, raw: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Compare the raw files, and yield the job that wrote them, which only phantoms have."""
    folders = []
    for case, files in raw.items():
        for name, digest in files.items():
            path = _on_disk(chain, name)
            step.raw.append(Link(name, digest, _state(chain, path, digest), case))
            if path.is_relative_to(chain.root):
                folders.append(path)
    for record in dict.fromkeys(find_record(path) for path in folders):
        if record is not None:
            yield _follow(chain, record)


def _on_disk(chain: Chain, name: str) -> Path:
    return Path(os.path.normpath(chain.root / name))


def _wanted(chain: Chain, stage: str, path: Path) -> bool:
    """Whether an input belongs to the experiments and the case that the chain follows."""
    if stage not in OF_A_CASE:
        return True
    # the stages below read of one experiment alone, or of the one that prompts it
    if chain.only and stage in OF_SEVERAL and path.is_relative_to(chain.root):
        below = path.relative_to(chain.root).parts[1:]
        named = below[1].partition(".")[0] if below[0] in OF_EXPERIMENTS else chain.only[0]
        if named not in chain.only:
            return False
    if chain.case and stage in ("evaluate", "report", "postprocess", "predict"):
        cases = cases_of(path) if path.suffix == ".json" else {}
        return not cases or chain.case in cases
    return True


def _result_links(chain: Chain, record: Path, content: Mapping[str, Any]) -> Iterator[Link]:
    """The results of a job: all of them, or those of the chain's case."""
    manifest = record.with_name(record.name.replace(RECORD, ".json"))
    cases = cases_of(manifest) if content["stage"] in OF_A_CASE and chain.case else {}
    of_cases = {Path(name).name for name in cases.values()}
    for name, result in content["results"].items():
        if Path(name).name in of_cases and name != cases.get(chain.case):
            continue
        path = record.parent / name
        state = _state(chain, path, result["sha256"])
        yield Link(os.path.relpath(path, chain.root), result["sha256"], state)


def _state(chain: Chain, path: Path, digest: str | None) -> State:
    if not result_file(path).is_file():
        return "gone"
    large = path.suffix not in (".json", ".csv", ".md", ".html")
    if chain.quick and large and path.suffix != ".zarr":
        return "not read"
    chain.tell(os.path.relpath(path, chain.root))
    if result_digest(path) != digest:
        return "differs"
    if path.suffix != ".zarr":
        return "as recorded"
    if chain.quick:
        return "not read"
    try:
        verify_store(path)
    except PipelineError:
        return "differs"
    return "as recorded"


def _behind(chain: Chain, key: str) -> set[str]:
    """The keys of all jobs that lead to a job."""
    behind: set[str] = set()
    for source in chain.steps[key].sources:
        behind |= {source} | _behind(chain, source)
    return behind
