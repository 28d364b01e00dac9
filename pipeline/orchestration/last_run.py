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

from pipeline.storage.files import fingerprint, remembered, write_json
from pipeline.storage.layout import Layout

RECORDS = Path(".snakemake")  # Snakemake's own, in the working directory
SHORT = 10  # characters of a commit


def changed_code(layouts: Collection[Layout], code: dict[str, Any] | None) -> list[str]:
    """A line for the data sets whose last call ran other code; none where git knows no commit."""
    datasets = defaultdict(list)
    for layout in layouts:
        before = _last(layout).get("code")
        # older versions noted digests of files in place of a commit
        if not isinstance(before, dict) or not isinstance(before.get("commit"), str):
            continue
        if code and before != code:
            datasets[f"{_version(before)} → {_version(code)}"].append(layout.dataset)
    return [
        f"{', '.join(names)}: code changed since the last run ({versions}); nothing runs again "
        "because of it unless VERSION was raised"
        for versions, names in datasets.items()
    ]


def _version(code: dict[str, Any]) -> str:
    edited = f" + {len(code['changed'])} edited" if code.get("changed") else ""
    return f"{code['commit'][:SHORT]}{edited}"


def results_there(layout: Layout) -> set[Path]:
    """The declared results of a data set that exist."""
    return {path for _, path in layout.existing("manifest", "small", "declared")}


def unrecorded(layout: Layout) -> set[Path]:
    """Results that exist and that Snakemake has not recorded here as they are."""
    there, noted = results_there(layout), _record(layout)
    record, folder = remembered(noted) or {}, layout.root / layout.dataset
    mark, names = record.get("mark"), record.get("unrecorded")
    # records of older versions do not say what is unrecorded
    if not mark or mark != _last(layout).get("mark") or not isinstance(names, list):
        return there
    return there & {folder / str(name) for name in names}


def note_code(layout: Layout, code: dict[str, Any] | None) -> None:
    """Note which code a call ran; the mark stays."""
    mark = _last(layout).get("mark") or uuid.uuid4().hex
    write_json(layout.last_run, {"code": code, "mark": mark})


def note_recorded(layout: Layout, made: Collection[Path] = ()) -> None:
    """Draw a new mark, after `note_code`; `made` was made or looked at since the last one."""
    folder, mark = layout.root / layout.dataset, uuid.uuid4().hex
    left = unrecorded(layout).difference(made)
    names = sorted(path.relative_to(folder).as_posix() for path in left)
    # in between the marks differ, so the next call looks at what a killed one leaves
    write_json(layout.last_run, {"code": None, **_last(layout), "mark": mark})
    write_json(_record(layout), {"results": str(folder), "mark": mark, "unrecorded": names})


def _last(layout: Layout) -> dict[str, Any]:
    return remembered(layout.last_run) or {}


def _record(layout: Layout) -> Path:
    name = fingerprint({"results": str(layout.root), "dataset": layout.dataset})
    return RECORDS / "grcsf" / f"{name}.json"
