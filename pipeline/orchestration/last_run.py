"""What a call leaves for the next one: the code that it ran, and where it was recorded.

Changed code starts nothing by itself, so the next call says that it changed. Snakemake keeps its
records in the working directory, so a stage looks once at results that came from another one. A
mark ties the two. Every call that makes something draws a new one: results that went on elsewhere,
or that were put back from a copy, carry another mark than the records here.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.layout import Layout

RECORDS = Path(".snakemake")  # Snakemake's own, in the working directory
SHORT = 10  # characters of a commit


def changed_code(layouts: Collection[Layout], code: dict[str, Any] | None) -> list[str]:
    """A line for the data sets whose last call ran other code; none where git knows no commit."""
    datasets = defaultdict(list)
    for layout in layouts:
        before = read_json(layout.last_run)["code"] if layout.last_run.exists() else None
        # older versions noted digests of files in place of a commit
        if code and before and "commit" in before and before != code:
            datasets[f"{_version(before)} → {_version(code)}"].append(layout.dataset)
    return [
        f"{', '.join(names)}: code changed since the last run ({versions}); nothing runs again "
        "because of it unless VERSION was raised"
        for versions, names in datasets.items()
    ]


def _version(code: dict[str, Any]) -> str:
    edited = f" + {len(code['changed'])} edited" if code["changed"] else ""
    return f"{code['commit'][:SHORT]}{edited}"


def results_there(layout: Layout) -> set[Path]:
    """The declared results of a data set that exist."""
    return {path for _, path in layout.existing("manifest", "small", "declared")}


def unrecorded(layout: Layout) -> set[Path]:
    """Results that exist and that Snakemake has not recorded here as they are."""
    there, noted = results_there(layout), _record(layout)
    if not (noted.exists() and layout.last_run.exists()):
        return there
    record, folder = read_json(noted), layout.root / layout.dataset
    # records of older versions do not say what is unrecorded
    if record["mark"] != read_json(layout.last_run)["mark"] or "unrecorded" not in record:
        return there
    return there & {folder / name for name in record["unrecorded"]}


def note_code(layout: Layout, code: dict[str, Any] | None) -> None:
    """Note which code a call ran; the mark stays."""
    there = layout.last_run.exists()
    mark = read_json(layout.last_run)["mark"] if there else uuid.uuid4().hex
    write_json(layout.last_run, {"code": code, "mark": mark})


def note_recorded(layout: Layout, made: Collection[Path] = ()) -> None:
    """Draw a new mark, after `note_code`; `made` was made or looked at since the last one."""
    folder, mark = layout.root / layout.dataset, uuid.uuid4().hex
    left = unrecorded(layout).difference(made)
    names = sorted(path.relative_to(folder).as_posix() for path in left)
    # in between the marks differ, so the next call looks at what a killed one leaves
    write_json(layout.last_run, {**read_json(layout.last_run), "mark": mark})
    write_json(_record(layout), {"results": str(folder), "mark": mark, "unrecorded": names})


def _record(layout: Layout) -> Path:
    name = fingerprint({"results": str(layout.root), "dataset": layout.dataset})
    return RECORDS / "grcsf" / f"{name}.json"
