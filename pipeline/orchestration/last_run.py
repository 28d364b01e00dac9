"""What a call leaves for the next one: the code that it ran, and where it was recorded.

Edited code starts nothing by itself, so the next call tells of it. And Snakemake keeps its records
(settings and digests of what it ran) in the working directory, so results that came from another
one are looked at once by every stage, which finds by its fingerprints what is made already.

A mark ties the records to the state of the results. It stands in both places, and every call that
makes something draws a new one: results that went on elsewhere, or that were put back from a copy,
carry another mark than the records here.
"""

from __future__ import annotations

import ast
import uuid
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.orchestration.changed_results import MANIFESTS
from pipeline.storage.files import file_digest, fingerprint, read_json, write_json
from pipeline.storage.layout import STAGES, Layout, is_record, stage_version

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("grcsf", "pipeline")
SHOWN = 3  # of the files that changed
DECLARED = (
    *MANIFESTS,
    "split/split.json",
    "evaluate/*.csv",
    "evaluate/*.json",
    "compare/table.*",
    "tabulate/*.*",
    "report/report.html",
)


def code_now() -> dict[str, Any]:
    """Digests of the packages' files, and every stage's `VERSION`."""
    files = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
    return {
        "files": {str(path.relative_to(CHECKOUT)): file_digest(path) for path in files},
        "versions": {stage: stage_version(stage) for stage in STAGES},
    }


def changed_code(layouts: Collection[Layout], code: dict[str, Any]) -> str:
    """A line about code that has changed since the last calls without a raised `VERSION`, or ""."""
    by_layout = {layout.dataset: _edited(layout, code) for layout in layouts}
    edited = set[str]().union(*by_layout.values())
    if not edited:
        return ""
    stages = [stage for stage in STAGES if edited & imported(stage)]
    files = sorted(edited)
    further = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    names = [name for name, found in by_layout.items() if found]
    return (
        f"{', '.join(names)}: {', '.join(files[:SHOWN])}{further} changed since the last run and "
        "no VERSION was raised, so nothing runs again because of it; if it changes a result, raise "
        f"VERSION in pipeline/ of its stage ({', '.join(stages)})"
    )


def _edited(layout: Layout, code: dict[str, Any]) -> set[str]:
    """The changed files that some stage imports, and none whose `VERSION` was raised."""
    if not layout.last_run.exists():
        return set()
    before = read_json(layout.last_run)["code"]
    changed = {file for file in code["files"] if code["files"][file] != before["files"].get(file)}
    if not changed:
        return set()
    raised = {stage for stage in STAGES if code["versions"][stage] != before["versions"].get(stage)}
    told = changed.difference(*(imported(stage) for stage in raised))
    return told & set[str]().union(*map(imported, STAGES))


@cache
def imported(stage: str) -> set[str]:
    """The packages' files that a stage imports, its own among them, relative to the checkout."""
    waiting, found = [f"pipeline.{stage}"], set[str]()
    while waiting:
        name = waiting.pop()
        path = CHECKOUT / Path(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        relative = str(file.relative_to(CHECKOUT))
        if not file.is_file() or relative in found:
            continue
        found.add(relative)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [one.name for one in node.names]
        waiting = [one for one in waiting if one.split(".")[0] in PACKAGES]
    return found


def results_there(layout: Layout) -> set[Path]:
    """The declared results of a data set that exist."""
    folder = layout.root / layout.dataset
    found = (path for pattern in DECLARED for path in folder.glob(pattern))
    return {path for path in found if not is_record(path) and not path.name.startswith(".")}


def unrecorded(layout: Layout, records: Path) -> set[Path]:
    """Results that exist and that Snakemake has not recorded here as they are; they are looked at.

    Args:
        layout: the data set's results.
        records: Snakemake's folder in the working directory.
    """
    there, noted = results_there(layout), _record(layout, records)
    if not (noted.exists() and layout.last_run.exists()):
        return there
    record, folder = read_json(noted), layout.root / layout.dataset
    if record["mark"] != read_json(layout.last_run)["mark"] or "unrecorded" not in record:
        return there
    return there & {folder / name for name in record["unrecorded"]}


def note_code(layout: Layout, code: dict[str, Any]) -> None:
    """Note which code a call ran; the mark stays."""
    there = layout.last_run.exists()
    mark = read_json(layout.last_run)["mark"] if there else _new_mark()
    write_json(layout.last_run, {"code": code, "mark": mark})


def note_recorded(layout: Layout, records: Path, made: Collection[Path] = ()) -> None:
    """Draw a new mark: the results change, or have changed, and Snakemake records it here.

    Between the two writes the marks differ, so that a call which is killed there leaves results
    that are looked at.

    Args:
        layout: the data set's results, of which `note_code` has noted the code.
        records: Snakemake's folder in the working directory.
        made: what was made or looked at since the last mark.
    """
    folder = layout.root / layout.dataset
    left = unrecorded(layout, records).difference(made)
    mark = _new_mark()
    write_json(layout.last_run, {**read_json(layout.last_run), "mark": mark})
    names = sorted(path.relative_to(folder).as_posix() for path in left)
    content = {"results": str(folder), "mark": mark, "unrecorded": names}
    write_json(_record(layout, records), content)


def _new_mark() -> str:
    return uuid.uuid4().hex


def _record(layout: Layout, records: Path) -> Path:
    name = fingerprint({"results": str(layout.root), "dataset": layout.dataset})
    return records / "grcsf" / f"{name}.json"
