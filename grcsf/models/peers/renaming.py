"""Weights of published files under our names; tensors in and out, whoever reads the files."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

COUNTER = "num_batches_tracked"
"""A batch norm's entry that files older than torch 0.4.1 lack; its value changes no result."""


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """A state dict whose names went through all rules in their order.

    Args:
        state: tensors by name.
        rules: a regular expression and what takes its place, as in `re.sub`.
    """
    result = {}
    for name, value in state.items():
        ours = name
        for pattern, replacement in rules:
            ours = re.sub(pattern, replacement, ours)
        result[ours] = value
    return result


def complete(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The given weights, if they are exactly those that a network or a part of it has.

    Args:
        given: tensors by name.
        own: the network's, which say what is expected.
        source: what the weights are, for the message.

    Returns:
        The given tensors in the order of `own`.

    Raises:
        ValueError: if an entry is missing, unexpected, or of another shape.
    """
    given = {key: value for key, value in own.items() if key.endswith(COUNTER)} | dict(given)
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        raise ValueError(
            f"not the weights of {source}: {_first('missing', missing)}, "
            f"{_first('unexpected', unexpected)}"
        )
    for key, value in own.items():
        if given[key].shape != value.shape:
            raise ValueError(
                f"weights of {source}: expected {key} to be {tuple(value.shape)}, "
                f"found {tuple(given[key].shape)}; the network has other sizes"
            )
    return {key: given[key] for key in own}


def _first(kind: str, names: list[str]) -> str:
    return f"{len(names)} entries {kind}" + (f" (first {names[0]})" if names else "")
