"""Builds the other networks of Table 1 at any width: 64 is the paper's, others are in proportion.

Each network is imported when it is built: timm and torchvision take long.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peer_sizes import PEERS, size_fault, swin_window, width_fault

Size = tuple[int, int]


def build_peer(
    name: str, width: int, input_size: Size, inputs: int, *, auxiliary: bool = False
) -> SegmentationNetwork:
    """Build a network that starts as its authors' does, from torch's global generator.

    Args:
        name: one of `PEERS`.
        width: 64 = paper; see each function for what follows from it.
        input_size: (h, w) of the slices in pixels.
        inputs: M, residual maps as further input channels.
        auxiliary: with heads that help training; for `ut_net` only.

    Raises:
        ValueError: if the network cannot have this width or size, or no such heads.
    """
    fault = width_fault(name, width) or size_fault(name, input_size)
    if fault:
        raise ValueError(fault)
    if auxiliary:
        if name != "ut_net":
            raise ValueError(f"{name} has no auxiliary heads to switch on")
        return _ut_net(width, input_size, inputs, auxiliary=True)
    return _BUILDERS[name](width, input_size, inputs)


def public_state(
    name: str, network: SegmentationNetwork, public: Mapping[str, Any]
) -> dict[str, Tensor]:
    """A network's state dict with the weights of its authors' form in place.

    Args:
        name: one of `PEERS`.
        network: of this name.
        public: what the file of weights holds; see each network's `reference_state`.

    Raises:
        ValueError: the weights are another network's, in one line.
    """
    state: dict[str, Tensor] = _reference_state(name)(network, public)
    return state


def _reference_state(name: str) -> Callable[..., dict[str, Tensor]]:
    if name == "deeplabv3":
        from grcsf.models.peers import deeplabv3

        return deeplabv3.reference_state
    if name == "swin_unet":
        from grcsf.models.peers import swin_unet

        return swin_unet.reference_state
    if name == "trans_unet":
        from grcsf.models.peers import trans_unet_weights

        return trans_unet_weights.reference_state
    if name == "spin":
        from grcsf.models.peers import spin

        return spin.reference_state
    if name == "trans_fuse":
        from grcsf.models.peers import trans_fuse

        return trans_fuse.reference_state
    from grcsf.models.peers import ut_net

    return ut_net.reference_state


def _deeplabv3(width: int, _size: Size, inputs: int) -> SegmentationNetwork:
    """All but the 64 filters of the first convolution."""
    from grcsf.models.peers.deeplabv3 import DeepLabv3

    return DeepLabv3(inputs, width=width)


def _swin_unet(width: int, size: Size, inputs: int) -> SegmentationNetwork:
    """The channels; as many heads as ever. The window is as large as the size allows."""
    from grcsf.models.peers.swin_unet import SwinUnet

    window = swin_window(size)
    assert window is not None  # `size_fault`
    return SwinUnet(input_size=size, inputs=inputs, width=3 * width // 2, window=window)


def _trans_unet(width: int, size: Size, inputs: int) -> SegmentationNetwork:
    """Tokens and decoder. The ResNet's filters are the next multiple of 32, its norms' groups."""
    from grcsf.models.peers.trans_unet import PATCH, TransUnet

    return TransUnet(
        input_size=_rounded_up(size, PATCH),
        inputs=inputs,
        width=12 * width,
        resnet_width=32 * -(-width // 32),
        first=8 * width,
        decoder=(4 * width, 2 * width, width, width // 4),
    )


def _spin(width: int, _size: Size, inputs: int) -> SegmentationNetwork:
    """Every number of filters."""
    from grcsf.models.peers.spin import SPiN

    unit, deep = width // 8, 49 * width // 16
    return SPiN(
        inputs,
        embedding=2 * unit,
        subpixels=unit,
        guidance=unit,
        encoder=(4 * unit, 8 * unit, 16 * unit, deep, deep),
        decoder=(deep, 16 * unit, 8 * unit, 4 * unit, 2 * unit, 2 * unit),
        downsampler=(2 * unit, 2 * unit),
    )


def _trans_fuse(width: int, size: Size, inputs: int) -> SegmentationNetwork:
    """Both branches, and what fuses them; as many heads as ever."""
    from grcsf.models.peers.trans_fuse import TransFuse

    return TransFuse(
        input_size=size,
        inputs=inputs,
        stem=width,
        bottlenecks=(width, 2 * width, 4 * width),
        tokens=12 * width,
    )


def _ut_net(
    width: int, _size: Size, inputs: int, *, auxiliary: bool = False
) -> SegmentationNetwork:
    """The filters; as many heads as ever."""
    from grcsf.models.peers.ut_net import UTNet

    return UTNet(width, inputs=inputs, auxiliary=auxiliary)


def _rounded_up(size: Size, multiple: int) -> Size:
    height, width = (multiple * -(-side // multiple) for side in size)
    return max(height, 2 * multiple), max(width, 2 * multiple)


_BUILDERS: dict[str, Callable[[int, Size, int], SegmentationNetwork]] = {
    "deeplabv3": _deeplabv3,
    "swin_unet": _swin_unet,
    "trans_unet": _trans_unet,
    "spin": _spin,
    "trans_fuse": _trans_fuse,
    "ut_net": _ut_net,
}
assert _BUILDERS.keys() == PEERS.keys()
