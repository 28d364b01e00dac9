"""What `grcsf check` found, for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import Finding, Group, grouped
from pipeline.tools.check.record import Check
from pipeline.tools.check.summary import counted, listed, needs, summary

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
LISTED = 4


def print_check(found: Check) -> None:
    """Print findings, the data set in a few lines, and what the run will need."""
    console = Console()
    if found.findings:
        findings = _table("severity", "case", "found, expected, what to do")
        for group in grouped(found.findings):
            # Text, for brackets in a case's name or path are no markup
            severity = group.finding.severity
            findings.add_row(
                Text(severity, style=STYLES[severity]),
                Text(listed(group.cases, LISTED) or "–"),
                _told(group),
            )
        console.print(findings)
        console.print()
    for lines in filter(None, (summary(found), needs(found))):
        facts = _table("", "")
        facts.show_header = False
        for what, value in lines:
            facts.add_row(Text(what), Text(value))
        console.print(facts)
        console.print()
    console.print(f"{found.dataset}: {counted(found)}", markup=False)


def _told(group: Group) -> Table:
    """One line each for what was found, expected, to be done, and where."""
    one: Finding = group.finding
    lines = Table.grid(padding=(0, 1))
    lines.add_column(style="dim", no_wrap=True, min_width=len("expected"))
    lines.add_column(overflow="fold")
    parts = {
        "found": one.found,
        "expected": one.expected,
        "do": one.remedy,
        "in": listed(group.files, 1),
    }
    for name, text in parts.items():
        if text:
            lines.add_row(name, Text(text))
    return lines


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        wide = number == 1 and len(headings) == 3
        table.add_column(heading, overflow="fold", max_width=16 if wide else None)
    return table
