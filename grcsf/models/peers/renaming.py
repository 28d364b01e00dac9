"""Weights of published files under our names; tensors in and out, whoever reads the files."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


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
