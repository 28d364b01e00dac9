"""A check for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import Group, grouped
from pipeline.tools.check.record import Check
from pipeline.tools.check.summary import counted, listed, needs, summary

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
LISTED = 4


def print_check(check: Check) -> None:
    """Print findings, the data set in a few lines, and the disk that the run needs."""
    console = Console()
    if check.findings:
        findings = _table("severity", "case", "found, expected, what to do")
        for group in grouped(check.findings):
            # Text, because rich takes brackets in a name or path for markup
            severity = group.finding.severity
            findings.add_row(
                Text(severity, style=STYLES[severity]),
                Text(listed(group.cases, LISTED) or "–"),
                _details(group),
            )
        console.print(findings)
        console.print()
    for lines in filter(None, (summary(check), needs(check))):
        facts = _table("", "")
        facts.show_header = False
        for what, value in lines:
            facts.add_row(Text(what), Text(value))
        console.print(facts)
        console.print()
    console.print(f"{check.dataset}: {counted(check)}", markup=False)


def _details(group: Group) -> Table:
    """One line each: found, expected, what to do, and where."""
    finding = group.finding
    lines = Table.grid(padding=(0, 1))
    lines.add_column(style="dim", no_wrap=True, min_width=len("expected"))
    lines.add_column(overflow="fold")
    parts = {"found": finding.found, "expected": finding.expected, "do": finding.remedy}
    for name, text in [*parts.items(), ("in", listed(group.files, 1))]:
        if text:
            lines.add_row(name, Text(text))
    return lines


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        wide = number == 1 and len(headings) == 3
        table.add_column(heading, overflow="fold", max_width=16 if wide else None)
    return table
