"""Which sizes the other networks of Table 1 can have; importing it takes no torch."""

from typing import NamedTuple

PATCH = 4
"""Pixels of the side of SwinUnet's patches; its deepest stage is 8 times as coarse."""
DEEPEST = 32
"""Pixels of the side of what SPiN's deepest map has one value for."""
WINDOWS = (7, 8, 6, 5, 4, 3, 2)
"""Sides of SwinUnet's windows in tokens; the paper's first, then the larger before the smaller."""


class PeerSizes(NamedTuple):
    """What a network asks of its width, its input and its training.

    `multiple` is of `width`; `context` the neighbours on each side that it sees; `least_batch` the
    slices that a training step needs; `colours` whether it is shown a slice three times, in place
    of red, green and blue.
    """

    multiple: int
    context: int = 0
    least_batch: int = 1
    colours: bool = False


PEERS = {
    "deeplabv3": PeerSizes(16, least_batch=2, colours=True),
    "swin_unet": PeerSizes(2, colours=True),
    "trans_unet": PeerSizes(4, colours=True),
    "spin": PeerSizes(16, context=2),
    "trans_fuse": PeerSizes(1, colours=True),
    "ut_net": PeerSizes(2),
}
"""By the name of `grcsf.models.build`."""


def width_fault(name: str, width: int) -> str:
    """What is wrong with a width for the network of this name; "" if nothing is."""
    multiple = PEERS[name].multiple if name in PEERS else 1
    if width >= 1 and width % multiple == 0:
        return ""
    some = " or more" if multiple == 1 else f", {2 * multiple}, {3 * multiple} … for {name}"
    return f"width: found {width}, expected {multiple}{some}"


def own_context(name: str) -> int:
    """Neighbours on each side that the network of this name sees by its method, or 0."""
    return PEERS[name].context if name in PEERS else 0


def context_fault(name: str, context: int | None) -> str:
    """What is wrong with so many neighbours for the network of this name; "" if nothing is."""
    own = own_context(name)
    if own and context not in (None, own):
        return f"context: found {context}, expected {own}, which {name} sees by its method"
    return ""


def size_fault(name: str, size: tuple[int, int]) -> str:
    """What is wrong with slices of this size (h, w) for a network; "" if nothing is."""
    found = f"found {size[0]}×{size[1]}, expected for {name}"
    if name == "spin" and max(size) <= DEEPEST:
        # its batch norm there could not learn from a batch of one slice
        return f"{found} more than {DEEPEST} pixels on a side, whose 1/{DEEPEST} is its last scale"
    if name == "swin_unet" and swin_window(size) is None:
        windows = "multiples of 32 pixels times 2 to 8 tokens of a window"
        return f"{found} {windows}, such as 224×224 (7) or 512×512 (8)"
    return ""


def swin_window(size: tuple[int, int]) -> int | None:
    """SwinUnet's window for slices of this size (h, w), in tokens; None if none divides both."""
    for window in WINDOWS:
        if all(side >= 1 and side % (8 * PATCH * window) == 0 for side in size):
            return window
    return None
