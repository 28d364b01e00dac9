"""Which neighbours a slice of a volume is shown with, to networks that see several slices."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Reach(NamedTuple):
    """Slices to read so that some have their neighbours.

    `part` are those that the volume has; `before` and `after` count those that it lacks.
    """

    part: slice
    before: int
    after: int


def reach(start: int, stop: int, depth: int, context: int) -> Reach:
    """Slices that the slices `start` … `stop` − 1 of a volume need.

    Args:
        start: first slice that is wanted, from 0.
        stop: the one after the last; above `start`.
        depth: slices of the volume.
        context: neighbours on each side, c.

    Raises:
        ValueError: the slices do not lie in the volume, or `context` is negative.
    """
    if not 0 <= start < stop <= depth:
        raise ValueError(f"slices {start} to {stop - 1} are not among the volume's {depth}")
    if context < 0:
        raise ValueError(f"context must be at least 0, found {context}")
    first, last = start - context, stop + context
    part = slice(max(0, first), min(depth, last))
    return Reach(part, part.start - first, last - part.stop)


def with_neighbours(
    slices: Tensor, context: int, before: int = 0, after: int = 0, beyond: float = 0.0
) -> Tensor:
    """Show every slice between its neighbours, z − c … z + c in the volume's order.

    Beyond the ends of a volume lie slices of 0, which mean nothing there is: the lower end of the
    intensity range, and what networks see beyond a slice's edge as well. A network that normalises
    its input has another `beyond`, which it makes 0.

    Args:
        slices: `(n, 1, h, w)`, in [0, 1], as `reach` tells.
        context: neighbours on each side, c; 0 leaves the slices as they are.
        before: slices that the volume lacks at its start.
        after: slices that it lacks at its end.
        beyond: intensity of these.

    Returns:
        `(n + before + after − 2c, 1 + 2c, h, w)`, each slice at channel c.

    Raises:
        ValueError: there are fewer than 1 + 2c slices in all.
    """
    total, shown = len(slices) + before + after, 1 + 2 * context
    if total < shown:
        raise ValueError(f"a slice is shown among {shown}, found {total}")
    padded = F.pad(slices, (0, 0, 0, 0, 0, 0, before, after), value=beyond)
    return padded[:, 0].unfold(0, shown, 1).movedim(-1, 1).contiguous()
