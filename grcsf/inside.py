"""What a network computes on its way to a mask: R of Eq. 1, φ and the attention of Eq. 6."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from grcsf.models.grcsf import GRCSF
from grcsf.models.rcu import RegionalCompensationUnit, from_patches


@dataclass
class Inside:
    """Maps of one slice by decoder level: 0 is full scale, 3 is 1/8.

    Attributes:
        logits: (h, w).
        similarity: level → what its skip unit found, (h_l, w_l); of the GCU R in [−1, 1], of other
            kinds their gate, averaged over channels where it has several.
        importance: level → φ of the patch that each pixel lies in, (h_l, w_l) in (0, 1).
        attended: level → for each residual map the length over channels of what its attention
            gives, (R, h_l, w_l), ≥ 0.
    """

    logits: Tensor
    similarity: dict[int, Tensor] = field(default_factory=dict)
    importance: dict[int, Tensor] = field(default_factory=dict)
    attended: dict[int, Tensor] = field(default_factory=dict)


def look_inside(network: nn.Module, image: Tensor, residuals: Tensor | None) -> Inside:
    """Run a network on one slice and keep what its compensation units compute.

    Args:
        network: in evaluation mode; one without units shows its logits only.
        image: (1, 1, h, w), in [0, 1].
        residuals: (1, R, h, w), in [0, 1], or None where the network takes none.

    Returns:
        All in float32, on the network's device; levels see the slice padded as the network pads it.

    Raises:
        ValueError: more than one slice, or a network in training mode.
    """
    if len(image) != 1 or network.training:
        raise ValueError("expected one slice, and a network in evaluation mode")
    found = Inside(torch.empty(0))
    with ExitStack() as hooks, torch.inference_mode():
        if isinstance(network, GRCSF):
            for level, unit in network.gcus.items():
                hooks.enter_context(_kept(unit, found.similarity, int(level), _mean_over_channels))
            for level, unit in network.rcus.items():
                assert isinstance(unit, RegionalCompensationUnit)
                hooks.enter_context(_regional(unit, found, int(level)))
        found.logits = network(image, residuals)[0, 0].float()
    return found


@contextmanager
def _kept(module: nn.Module, into: dict[int, Tensor], level: int, shape: Any) -> Iterator[None]:
    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        into[level] = shape(output.float())

    with module.register_forward_hook(keep):
        yield


@contextmanager
def _regional(unit: RegionalCompensationUnit, found: Inside, level: int) -> Iterator[None]:
    """Keeps the unit's scores and its attention's outputs as maps."""
    scores: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep_output(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs.append(output.float())  # (1, N, P², C), one call per residual map

    def keep_scores(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        scores.append(output.float())  # (1, N, 1)

    def arrange(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        height, width = inputs[0].shape[-2:]
        if scores:
            tokens = scores[0][:, :, None].expand(-1, -1, unit.patch_size**2, -1)
            found.importance[level] = from_patches(tokens.contiguous(), height, width)[0, 0]
        lengths = [torch.linalg.vector_norm(one, dim=-1, keepdim=True) for one in outputs]
        maps = [from_patches(one, height, width)[0, 0] for one in lengths]
        found.attended[level] = torch.stack(maps)

    with ExitStack() as hooks:
        hooks.enter_context(unit.attention.register_forward_hook(keep_output))
        if unit.importance is not None:
            hooks.enter_context(unit.importance.register_forward_hook(keep_scores))
        hooks.enter_context(unit.register_forward_hook(arrange))
        yield


def _mean_over_channels(output: Tensor) -> Tensor:
    return output[0].mean(dim=0)  # (1 or C, h, w) → (h, w)
