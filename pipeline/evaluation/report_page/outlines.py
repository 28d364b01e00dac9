"""Masks as SVG paths along the sides of their pixels: exact, and small beside a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.storage.masks import Mask


def outline(mask: Mask) -> str:
    """The path round the marked pixels of a mask (rows, columns); "" where none is.

    It counts in pixels from the slice's top left corner.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    level = np.diff(padded, axis=0)[:, 1:-1]  # line y lies above row y
    upright = np.diff(padded, axis=1)[1:-1].T
    sides = [f"M{start} {line}h{length}" for line, start, length in _runs(level)]
    sides += [f"M{line} {start}v{length}" for line, start, length in _runs(upright)]
    return "".join(sides)


def _runs(changes: npt.NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    """Line, start and length of every run of changes along a line (lines, places)."""
    ends = np.diff(np.pad(changes != 0, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    # both come line by line, so that they pair up
    firsts, lasts = np.argwhere(ends == 1), np.argwhere(ends == -1)
    for (line, start), (_, end) in zip(firsts.tolist(), lasts.tolist(), strict=True):
        yield line, start, end - start
