"""A check as a page of its own, which can be passed on."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.errors import grouped
from pipeline.evaluation.pages import rendered
from pipeline.storage.files import write
from pipeline.storage.layout import Layout
from pipeline.tools.check.record import Check
from pipeline.tools.check.summary import counted, listed, needs, summary


def write_page(layout: Layout, check: Check) -> None:
    """Write `check.html`, in which everything is embedded."""
    content = {
        "dataset": check.dataset,
        "counted": counted(check),
        "findings": [
            {**asdict(group.finding), "cases": listed(group.cases), "files": listed(group.files)}
            for group in grouped(check.findings)
        ],
        "summary": summary(check),
        "needs": needs(check),
    }
    write(layout.check(".html"), rendered("check.html.j2", content))
