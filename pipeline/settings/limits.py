"""How large and deep a configuration may be, so that none fills the memory or the stack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from pipeline.settings.section import require

LARGEST_FILE = 2**20  # bytes; the largest configuration that is shipped has 1 % of it
MOST_VALUES = 50_000  # with every alias written out
DEEPEST = 40


def check_nodes(root: yaml.Node | None) -> None:
    """Refuse YAML whose aliases, written out, make too many values or an endless one.

    Raises:
        ValueError: too many values, or too deep.
    """
    _check(root, _inside)


def check_values(given: Any) -> None:
    """Refuse plain values that are too many or too deep, and text that no file's name can hold.

    Raises:
        ValueError: one of these.
    """
    _check(given, _within)


def _check(root: Any, parts: Any) -> None:
    waiting, count = [(root, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        require(count <= MOST_VALUES, f"found more than {MOST_VALUES} values, aliases written out")
        require(depth <= DEEPEST, f"found values nested deeper than {DEEPEST}")
        waiting += [(part, depth + 1) for part in parts(value)]


def _inside(node: yaml.Node | None) -> Iterable[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, str):
        whole = "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
        require(whole, f"found {value[:40]!r}, expected text without NUL and half characters")
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple | set) else ()
