"""Public weights under our names: what has to be there, what may stay as it was made."""

import math
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
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
    maps: int = 0,
) -> dict[str, Tensor]:
    """A network's state dict with public weights in place.

    Args:
        own: the network's state dict.
        given: public weights under its names.
        network: its name, for the error.
        kept: starts of the names that the public weights lack; they stay as they are.
        widened: first convolutions and norms of the input, which may lack the channels of
            neighbours and residual maps in public; those stay as they are.
        maps: of these channels, the last of the input.

    Raises:
        ValueError: one line with the count and the first of the missing, unexpected, mis-shaped
            and non-finite entries.
    """
    given, kept = dict(given), (*kept, NORMALISATION)
    for name in widened:
        inputs = min(1, own[name].ndim - 1)  # the axis: a norm has no other
        without, further = own[name].tensor_split([own[name].shape[inputs] - maps], dim=inputs)
        if name in given and given[name].shape == without.shape:
            given[name] = torch.cat([given[name], further], dim=inputs)
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


def on_grid(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """A square table of positions, `(1, L, D)`, for another grid; other tables stay as they are."""
    if positions.ndim != 3 or positions.shape[1] == grid[0] * grid[1] or not positions.numel():
        return positions
    side = math.isqrt(positions.shape[1])
    if side**2 != positions.shape[1]:
        return positions
    square = positions.transpose(1, 2).reshape(*positions.shape[::2], side, side)
    resized = F.interpolate(square, grid, mode="bilinear", align_corners=True)
    return resized.flatten(2).transpose(1, 2).contiguous()


def _first(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
