"""Public weights under our names: what has to be there, what may stay as it was made."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

SHOWN = 3
NORMALISATION = "normalisation."
"""Of the input: ours, and kept as it is."""
UNCOUNTED = ".num_batches_tracked"
"""Batch norm's counter, which older files lack and nothing here uses."""


def filled(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    network: str,
    kept: tuple[str, ...] = (),
    widened: Collection[str] = (),
) -> dict[str, Tensor]:
    """A network's state dict with public weights in place.

    Args:
        own: the network's state dict.
        given: public weights under its names.
        network: its name, for the error.
        kept: starts of the names that the public weights lack; they stay as they are.
        widened: first convolutions. Where they have more input channels than the public ones
            (residual maps), those stay as they are.

    Raises:
        ValueError: one line with the count and the first of the missing, unexpected, mis-shaped
            and non-finite entries.
    """
    given, kept = dict(given), (*kept, NORMALISATION)
    for name in widened:
        if name in given and name in own and given[name].ndim == own[name].ndim:
            further = own[name][:, given[name].shape[1] :].to(given[name])
            if further.shape[0] == given[name].shape[0]:
                given[name] = torch.cat([given[name], further], dim=1)
    faults = {
        "missing": [
            name
            for name in own
            if name not in given and not name.startswith(kept) and not name.endswith(UNCOUNTED)
        ],
        "unexpected": [name for name in given if name not in own],
        "mis-shaped": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in given and given[name].shape != own[name].shape
        ],
        "not finite": [name for name in given if not bool(torch.isfinite(given[name]).all())],
    }
    counts = [f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names]
    if counts:
        raise ValueError(f"weights do not fit {network}: {'; '.join(counts)}")
    return {name: given.get(name, value) for name, value in own.items()}


def _first(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
