"""The stores of a configuration, for a terminal and as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.planning.sizes import size_text
from pipeline.tools.store.inventory import KeptStore

COLUMNS = ("case", "shape", "size", "ratio", "fingerprint", "state")
FINGERPRINT_SHOWN = 8


def as_records(found: Mapping[str, Sequence[KeptStore]]) -> list[dict[str, Any]]:
    """Plain JSON values, one record a store."""
    return [
        {
            "dataset": dataset,
            "stage": one.stage,
            "of": one.of,
            "case": one.case,
            "path": str(one.path),
            "shape": list(one.shape),
            "bytes": one.size,
            "raw_bytes": one.raw_bytes,
            "ratio": one.ratio,
            "fingerprint": one.fingerprint,
            "state": one.state,
            "fault": one.fault,
        }
        for dataset, stores in found.items()
        for one in stores
    ]


def print_stores(found: Mapping[str, Sequence[KeptStore]]) -> None:
    """Print a table a stage and set, and what is wrong with stores that cannot be used."""
    console = Console()
    for dataset, stores in found.items():
        if not stores:
            console.print(Text(f"{dataset}: no stores yet", style="bold"))
        for group in dict.fromkeys(one.group for one in stores):
            _print_group(console, f"{dataset}/{group}", [s for s in stores if s.group == group])
        for one in stores:
            if one.fault:
                console.print(Text(one.fault, style="bold red"), soft_wrap=True)


def _print_group(console: Console, title: str, stores: Sequence[KeptStore]) -> None:
    own = [one for one in stores if one.state != "linked"]
    size, raw = sum(one.size for one in own), sum(one.raw_bytes for one in own)
    linked = f", {len(stores) - len(own)} more linked" if len(own) < len(stores) else ""
    ratio = f", ratio {raw / size:.2f}" if size else ""
    text = f"{title}: {len(own)} stores, {size_text(size)}{ratio}{linked}"
    console.print(Text(text, style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        right = column in ("size", "ratio")
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for one in stores:
        table.add_row(*map(Text, _cells(one)))
    console.print(table)


def _cells(one: KeptStore) -> tuple[str, ...]:
    return (
        one.case,
        "×".join(map(str, one.shape)),
        size_text(one.size),
        "–" if one.ratio is None else f"{one.ratio:.2f}",
        one.fingerprint[:FINGERPRINT_SHOWN],
        one.state,
    )
