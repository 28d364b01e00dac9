"""What `grcsf check` found as HTML: a page of its own, and a section of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from pipeline.check_record import Check, read_check
from pipeline.check_summary import counted, needs, summary
from pipeline.files import replacing
from pipeline.findings import Group, grouped
from pipeline.grid_picture import grid_picture
from pipeline.layout import Layout

LISTED = 8  # names in one cell


def write_page(layout: Layout, found: Check) -> None:
    """Write `check.html`, in which everything is embedded."""
    page = templates().get_template("check.html.j2").render(check=check_content(found))
    with replacing(layout.check(".html")) as temporary:
        temporary.write_text(page, "utf-8")


def templates() -> jinja2.Environment:
    """The pages' templates; text is escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def check_content(found: Check) -> dict[str, Any]:
    """All that `check_section.html.j2` shows, pictures as base64."""
    return {
        "dataset": found.dataset,
        "counted": counted(found),
        "findings": [_row(one) for one in grouped(found.findings)],
        "summary": summary(found),
        "needs": needs(found),
        "pictures": [
            (one.case, base64.b64encode(grid_picture(*one.grids)).decode("ascii"))
            for one in found.cases
            if one.grids is not None
        ],
    }


def current_check(layout: Layout, cases: Mapping[str, Any]) -> Check | None:
    """The check of the very files that were ingested; None if it did not run on them.

    Args:
        layout: where its results lie.
        cases: of ingest's manifest.

    Raises:
        PipelineError: `check.json` is damaged.
    """
    found = read_check(layout)
    if found is None:
        return None
    seen = {one.case: one.fingerprint for one in found.cases}
    same = all(seen.get(name) == case["fingerprint"] for name, case in cases.items())
    return found if same else None


def _row(group: Group) -> dict[str, str]:
    one = group.finding
    return {
        "severity": one.severity,
        "cases": listed(group.cases),
        "found": one.found,
        "expected": one.expected,
        "remedy": one.remedy,
        "files": listed(group.files),
    }


def listed(names: list[str], most: int = LISTED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
