"""Reading what lists a data set, a CSV or `dataset.json`: its paths and its labels' values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, file_fault, one_line
from pipeline.settings.section import CONTROL
from pipeline.storage.files import read_regular

DESCRIPTION = "dataset.json"


def read_list(path: Path, expected: str) -> str:
    """The text of a list; `expected` says what it holds.

    Raises:
        PipelineError: the file is missing, unreadable, no regular file or no UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except FileNotFoundError:
        remedy = "write one, or correct source.root"
        raise file_fault(path, "not there", expected, remedy) from None
    except OSError as error:
        raise file_fault(path, f"not readable ({error.strerror})", expected, "correct it") from None
    except UnicodeDecodeError as error:
        fault = f"no UTF-8 text ({error.reason} at byte {error.start})"
        raise file_fault(path, fault, expected, "save it as UTF-8") from None


def read_description(root: Path) -> dict[str, Any]:
    """The content of `dataset.json`.

    Raises:
        PipelineError: it is missing, damaged, no JSON object, or gives a key twice.
    """
    path = root / DESCRIPTION
    text = read_list(path, "the data set's description")
    try:
        content = json.loads(text, object_pairs_hook=_keys_once)
    except RecursionError:
        raise file_fault(path, "no readable JSON (nested too deep)", "", "fetch it again") from None
    except ValueError as error:
        fault = f"no readable JSON ({one_line(error)})"
        raise file_fault(path, fault, "", "fetch it again") from None
    if not isinstance(content, dict):
        raise file_fault(path, f"found {type(content).__name__}", "a JSON object", "fetch it again")
    return content


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice, of which the last would win")
    return content


def listed_path(folder: Path, given: str) -> Path:
    """A path that a list names, relative to `folder`; `~` is the home folder.

    Raises:
        ValueError: it holds what no path does, or names an unknown user; the message quotes it.
    """
    if CONTROL.search(given):
        raise ValueError(f"the path {given!r}")
    try:
        return folder / Path(given).expanduser()
    except RuntimeError:
        raise ValueError(f"the path {given!r} of a user that is not known here") from None


def values_outside(description: dict[str, Any], root: Path) -> tuple[tuple[str, int], ...]:
    """Names and values of labels that are no lesion, though not 0: `ignore`, and a background.

    `labels` is nnU-Net's name → value, or value → name as in the Decathlon. A region, a list of
    values, is lesion in all of them, as every value above 0 is.

    Raises:
        PipelineError: such a label's value is no whole number.
    """
    labels = description.get("labels")
    outside = []
    for key, content in labels.items() if isinstance(labels, dict) else ():
        name, value = (content, key) if key.isdecimal() else (key, content)
        if str(name).strip().lower() not in ("ignore", "background"):
            continue
        for number in value if isinstance(value, list) else [value]:
            if not _is_whole(number):
                found = f"labels: {one_line(repr(number))} for {name}"
                raise file_fault(root / DESCRIPTION, found, "a whole number", "correct it")
            if int(number) != 0:
                outside.append((str(name), int(number)))
    return tuple(outside)


def _is_whole(value: object) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return type(value) in (int, float) and value == value // 1  # type: ignore[operator]


def check_outside(
    outside: Sequence[tuple[str, int]], root: Path, foreground: Sequence[int] | None
) -> None:
    """Refuse labels with values outside of the lesion, unless `foreground` chooses others.

    Raises:
        PipelineError: the values would become lesion.
    """
    for name, value in outside:
        if foreground is None or value in foreground:
            raise PipelineError(
                f"{root / DESCRIPTION}: labels: value {value} is {name!r} and would become lesion, "
                "expected every value above 0 to be lesion, as ignored regions are not supported; "
                "set source.foreground to the lesion's values alone, such as [1], which takes "
                f"{value} as background, in training and in scores"
            )
