"""The stores of a configuration, for a terminal and as records, printed as they are found."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.planning.sizes import size_text
from pipeline.tools.store.inventory import KeptStore

COLUMNS = ("case", "shape", "size", "ratio", "fingerprint", "state")
FINGERPRINT_SHOWN = 8
LISTED_AT_ONCE = 1000  # stores whose columns have one width


def print_records(inventory: Mapping[str, Iterable[KeptStore]]) -> None:
    """Print plain JSON: a list with a record for each store, one at a time."""
    before = "[\n"
    for dataset, stores in inventory.items():
        for store in stores:
            record = json.dumps(_record(dataset, store), indent=1)
            typer.echo(f"{before}{textwrap.indent(record, ' ')}", nl=False)
            before = ",\n"
    typer.echo("[]" if before == "[\n" else "\n]")


def _record(dataset: str, store: KeptStore) -> dict[str, Any]:
    return {
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


def print_stores(inventory: Mapping[str, Iterable[KeptStore]]) -> None:
    """Print a table for each stage and set, and below it its sums and the faults of its stores."""
    console = Console()
    for dataset, stores in inventory.items():
        none = True
        for group, members in groupby(stores, key=lambda store: store.group):
            none = False
            _print_group(console, f"{dataset}/{group}", members)
        if none:
            console.print(Text(f"{dataset}: no stores yet", style="bold"))


def _print_group(console: Console, title: str, stores: Iterator[KeptStore]) -> None:
    number = linked = size = raw = 0
    heading = True
    while some := list(islice(stores, LISTED_AT_ONCE)):
        _print_table(console, some, heading=heading)
        heading = False
        own = [store for store in some if store.state != "linked"]
        number, linked = number + len(own), linked + len(some) - len(own)
        size += sum(store.size for store in own)
        raw += sum(store.raw_bytes for store in own)
        for store in some:
            if store.fault:
                console.print(Text(store.fault, style="bold red"), soft_wrap=True)
    elsewhere = f", {linked} more linked" if linked else ""
    ratio = f", ratio {raw / size:.2f}" if size else ""
    text = f"{title}: {number} stores, {size_text(size)}{ratio}{elsewhere}"
    console.print(Text(text, style="bold"), soft_wrap=True)


def _print_table(console: Console, stores: Sequence[KeptStore], *, heading: bool) -> None:
    table = Table(box=None, pad_edge=False, show_header=heading)
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
