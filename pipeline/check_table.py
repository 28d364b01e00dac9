"""What `grcsf check` found, for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.check import Check, needs, summary

STYLES = {"error": "bold red", "note": "dim"}


def print_check(found: Check) -> None:
    """Print findings, the data set in a few lines, and what the run will need."""
    console = Console()
    if found.findings:
        findings = _table("severity", "case", "found, expected, what to do")
        for one in found.findings:
            # Text, for brackets in a case's name or path are no markup
            findings.add_row(
                Text(one.severity, style=STYLES[one.severity]), Text(one.case), Text(one.text)
            )
        console.print(findings)
    for lines in (summary(found), needs(found)):
        facts = _table("", "")
        facts.show_header = False
        for what, value in lines:
            facts.add_row(Text(what), Text(value))
        console.print(facts)
    console.print(
        f"{found.dataset}: {found.errors} errors, {len(found.findings) - found.errors} notes",
        markup=False,
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
