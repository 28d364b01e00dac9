"""What each path of the page is answered with; a path chooses from tables, never a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.settings import Dataset
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store
from pipeline.tools.view.cases import ListedCase, columns
from pipeline.tools.view.layers import Layer, case_layers, marked_place, method_colours, nifti

STATIC = {
    "": ("page.html", "text/html; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "niivue.umd.js": ("niivue.umd.js", "text/javascript; charset=utf-8"),
}
CASE = re.compile(r"cases/(\d{1,9})\.json", re.ASCII)
VOLUME = re.compile(r"volumes/(\d{1,9})/(\d{1,9})\.nii", re.ASCII)
Answer = tuple[str, bytes]  # media type, content


@dataclass(frozen=True)
class Shown:
    """What the page shows: the cases of one data set."""

    layout: Layout
    dataset: Dataset
    cases: Sequence[ListedCase]
    by: str  # the experiment whose Dice gives their order
    repeat: int
    one_at_a_time: Lock = field(default_factory=Lock)  # whole volumes are large
    last: dict[str, list[Layer]] = field(default_factory=dict)  # of the case asked for last


def answer_of(shown: Shown, path: str) -> Answer | None:
    """The answer to a path below the token; None where there is nothing.

    Raises:
        PipelineError: a store or a mask is missing or damaged.
    """
    if path in STATIC:
        return STATIC[path][1], _static(STATIC[path][0])
    if path == "cases.json":
        return _json(_cases(shown))
    with shown.one_at_a_time:
        if (asked := CASE.fullmatch(path)) and (number := int(asked[1])) < len(shown.cases):
            return _json(_case(shown, shown.cases[number]))
        if (asked := VOLUME.fullmatch(path)) and (number := int(asked[1])) < len(shown.cases):
            return _volume(shown, shown.cases[number], int(asked[2]))
    return None


@cache
def _static(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()


def _json(content: Any) -> Answer:
    return "application/json", json.dumps(content, allow_nan=False).encode()


def _cases(shown: Shown) -> dict[str, Any]:
    return {
        "dataset": shown.layout.dataset,
        "by": shown.by,
        "columns": list(columns(shown.dataset)),
        "cases": [{"case": each.case, "dice": each.dice} for each in shown.cases],
    }


def _case(shown: Shown, listed: ListedCase) -> dict[str, Any]:
    colours = method_colours(shown.dataset)
    return {
        "case": listed.case,
        "subset": listed.subset,
        "place": marked_place(open_store(shown.layout.case_store(listed.case))),
        "layers": [_described(layer) for layer in _layers(shown, listed)],
        "scores": [
            {"method": name, "colour": colours[name], "values": values}
            for name, values in listed.scores.items()
        ],
    }


def _layers(shown: Shown, listed: ListedCase) -> list[Layer]:
    """A case's layers, kept until another case is opened: the ends of its maps take seconds."""
    layers = case_layers(shown.layout, shown.dataset, listed, shown.repeat)
    shown.last.clear()
    shown.last[listed.case] = layers
    return layers


def _described(layer: Layer) -> dict[str, Any]:
    return {
        "kind": layer.kind,
        "title": layer.title,
        "colours": layer.colours,
        "low": layer.low,
        "high": layer.high,
    }


def _volume(shown: Shown, listed: ListedCase, number: int) -> Answer | None:
    layers = shown.last.get(listed.case) or _layers(shown, listed)
    if number >= len(layers):
        return None
    store = open_store(shown.layout.case_store(listed.case))
    return "application/octet-stream", nifti(layers[number], store)
