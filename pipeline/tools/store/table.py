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


def as_records(inventory: Mapping[str, Sequence[KeptStore]]) -> list[dict[str, Any]]:
    """Plain JSON values: one record for each store."""
    return [
        {
            "dataset": dataset,
            "stage": store.stage,
            "of": store.of,
            "case": store.case,
            "path": str(store.path),
            "shape": list(store.shape),
            "bytes": store.size,
            "raw_bytes": store.raw_bytes,
            "ratio": store.ratio,
            "fingerprint": store.fingerprint,
            "state": store.state,
            "fault": store.fault,
        }
        for dataset, stores in inventory.items()
        for store in stores
    ]


def print_stores(inventory: Mapping[str, Sequence[KeptStore]]) -> None:
    """Print a table for each stage and set, and the faults of unusable stores."""
    console = Console()
    for dataset, stores in inventory.items():
        if not stores:
            console.print(Text(f"{dataset}: no stores yet", style="bold"))
        for group in dict.fromkeys(store.group for store in stores):
            _print_group(console, f"{dataset}/{group}", [s for s in stores if s.group == group])
        for store in stores:
            if store.fault:
                console.print(Text(store.fault, style="bold red"), soft_wrap=True)


def _print_group(console: Console, title: str, stores: Sequence[KeptStore]) -> None:
    own = [store for store in stores if store.state != "linked"]
    size, raw = sum(store.size for store in own), sum(store.raw_bytes for store in own)
    linked = f", {len(stores) - len(own)} more linked" if len(own) < len(stores) else ""
    ratio = f", ratio {raw / size:.2f}" if size else ""
    text = f"{title}: {len(own)} stores, {size_text(size)}{ratio}{linked}"
    console.print(Text(text, style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        right = column in ("size", "ratio")
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for store in stores:
        table.add_row(*map(Text, _cells(store)))
    console.print(table)


def _cells(store: KeptStore) -> tuple[str, ...]:
    return (
        store.case,
        "×".join(map(str, store.shape)),
        size_text(store.size),
        "–" if store.ratio is None else f"{store.ratio:.2f}",
        store.fingerprint[:FINGERPRINT_SHOWN],
        store.state,
    )
