"""Reading a configuration file, and explaining its faults in words a person can act on.

It also bounds how large and deep a configuration may be, so that none fills memory or stack.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline import settings as settings_model
from pipeline.errors import PipelineError, one_line
from pipeline.settings import Settings
from pipeline.settings.apply.cohort import validated
from pipeline.settings.paths import file_refusal
from pipeline.settings.section import require

LARGEST_FILE = 2**20  # bytes; the largest configuration that is shipped has 1 % of it
MOST_VALUES = 50_000  # with every alias written out
DEEPEST = 40
# pydantic's fault types in a user's words; `{…}` stands for the schema's own value
EXPECTED = {
    "int_type": "a whole number",
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list in brackets"),
    **dict.fromkeys(("dict_type", "model_type"), "keys and values"),
    **dict.fromkeys(("string_type", "invalid_key"), "text"),
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "letters, digits, _, + and -, beginning with a letter or digit",
}
EITHER = "a whole number from 1 on, or a fraction between 0 and 1"


def load_settings(path: Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The validated settings of one YAML file, with `overrides` merged over it.

    Raises:
        PipelineError: no YAML, or keys and values that are not allowed, each in a line of its own.
    """
    return validate(merge(read_configuration(path), overrides or {}), str(path))


def read_configuration(path: Path) -> dict[str, Any]:
    """The keys and values of one YAML file, not yet validated.

    Raises:
        PipelineError: the file is missing or no YAML, or gives a key twice.
    """
    try:
        text = _read_text(path)
        loader = yaml.SafeLoader(text)
        nodes = loader.get_single_node()
        _check_nodes(nodes)
        twice = _key_given_twice(nodes)
        given = None if nodes is None else loader.construct_document(nodes)
    except OSError as error:
        fault = f"{error.strerror or error}; expected a readable YAML file"
    except UnicodeDecodeError as error:
        fault = f"found no UTF-8 text ({error.reason})"
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        fault = f"{line}not valid YAML: {error.problem}"
    except yaml.YAMLError as error:
        fault = f"not valid YAML: {' '.join(str(error).split())}"
    except RecursionError:
        fault = "found values nested too deeply"
    # such as a number of thousands of digits, which Python refuses, or a 13th month
    except (ValueError, ArithmeticError, TypeError, LookupError, AttributeError) as error:
        fault = f"cannot be read: {one_line(error)}"
    else:
        if isinstance(given, dict) and not twice:
            return given
        fault = f"found {_shown(given)}, expected keys and values"
        if twice:
            place = f"line {twice.start_mark.line + 1}: found {twice.value!r} a second time"
            fault = f"{place} in its section, expected it once; the first would be lost"
    raise PipelineError(f"configuration {path}: {fault}")


def _read_text(path: Path) -> str:
    if (refusal := file_refusal(path)).startswith("found "):
        raise PipelineError(f"configuration {path}: {refusal}; expected a readable YAML file")
    size = path.stat().st_size
    require(size <= LARGEST_FILE, f"found {size} bytes, expected at most {LARGEST_FILE}")
    return path.read_text(encoding="utf-8")


def _key_given_twice(root: yaml.Node | None) -> yaml.Node | None:
    """The first key that one mapping holds twice; YAML would silently keep the last value."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias is the same node again
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in node.value]
            # loading reports a key that is no scalar
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            first = {key.value: key for key in reversed(keys)}
            if again := [key for key in keys if key is not first[key.value]]:
                return again[0]
    return None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in place of its own, key by key in nested mappings."""
    merged = dict(base)
    for key, value in over.items():
        nested = merged.get(key)
        both = isinstance(nested, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(nested, value) if both else value  # type: ignore[arg-type]
    return merged


def validate(given: Mapping[str, Any], origin: str) -> Settings:
    """The settings that a mapping describes; `origin` names it in errors."""
    try:
        _check_values(given)
        return validated(given)
    except ValidationError as error:
        faults = error.errors()
        expectations: dict[str, set[str]] = defaultdict(set)
        for fault in faults:
            if not _follows(fault, faults):
                place, expected = _explanation(fault)
                expectations[place].add(expected)
        lines = [
            # an `int | float` field reports one fault per type; show a single message
            f"configuration {origin}: {place}{EITHER if len(expected) > 1 else expected.pop()}"
            for place, expected in expectations.items()
        ]
        raise PipelineError("\n".join(lines)) from None
    except ValueError as error:
        raise PipelineError(f"configuration {origin}: {error}") from None


def _follows(fault: Any, faults: Sequence[Any]) -> bool:
    """Whether a list counts as too short only because its faulty members do not count."""
    place = fault["loc"]
    within = [other for other in faults if other["loc"][: len(place)] == place]
    return bool(fault["type"] == "too_short" and len(within) > 1)


def _explanation(fault: Any) -> tuple[str, str]:
    """The key with the value found there, and what was expected."""
    location: Sequence[str | int] = fault["loc"]
    key = ".".join(str(part) for part in location if not _is_branch(part))
    kind: str = fault["type"]
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{key}: unknown key; ", f"{hint}known keys: {', '.join(known)}"
    found = f"found {_shown(fault['input'])}"
    if kind == "missing" and isinstance(location[-1], int):
        return f"{key.rpartition('.')[0]}: {found}, expected ", "more of them"
    if kind == "missing":
        return f"{key}: missing; ", "this key must be given"
    if kind == "value_error":
        return f"{key}: " if key else "", str(fault["ctx"]["error"])
    if kind in EXPECTED:
        return f"{key}: {found}, expected ", EXPECTED[kind].format(**fault.get("ctx", {}))
    return f"{key}: {found}; ", fault["msg"][0].lower() + fault["msg"][1:]


def _is_branch(part: str | int) -> bool:
    """Whether pydantic put this part into a path to name a union's member; no file has the key."""
    named = part in {"int", "float"}
    return isinstance(part, str) and (named or "[" in part or part.startswith("constrained"))


def _known_keys(location: Sequence[str | int]) -> list[str]:
    model: Any = Settings
    for part in location:
        if str(part).startswith("["):  # a union's tag is its member's class in brackets
            model = getattr(settings_model, str(part).strip("[]"))
        elif isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = _model_within(field.annotation) if field else None
        elif isinstance(model, tuple):
            model = model[0]
    model = model[0] if isinstance(model, tuple) else model
    return list(model.model_fields) if model else []


def _model_within(annotation: Any) -> Any:
    """The section in an annotation; a one-tuple of it if another key or index follows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in reversed(get_args(annotation)):
        if model := _model_within(argument):
            return (model,) if get_origin(annotation) in {dict, tuple} else model
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def _check_nodes(root: yaml.Node | None) -> None:
    """Refuse YAML whose aliases, written out, make too many values or an endless one.

    Raises:
        ValueError: too many values, or too deep.
    """
    _walk(root, _inside)


def _check_values(given: Any) -> None:
    """Refuse plain values that are too many or too deep, and text that no file's name can hold.

    Raises:
        ValueError: one of these.
    """
    _walk(given, _within)


def _walk(root: Any, parts: Any) -> None:
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
