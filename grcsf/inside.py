"""Intermediate maps of a network: R of Eq. 1, φ and the attention of Eq. 6."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from grcsf.models.grcsf import GRCSF
from grcsf.models.rcu import RegionalCompensationUnit, from_patches


@dataclass
class Inside:
    """Maps of one slice by decoder level: 0 is full scale, 3 is 1/8.

    Attributes:
        logits: (h, w).
        similarity: level → map of its skip unit, (h_l, w_l): R in [−1, 1] for the GCU, for other
            kinds their gate, averaged over its channels.
        importance: level → φ of each pixel's patch, (h_l, w_l) in (0, 1).
        attended: level → norm over channels of the attention's output, (R, h_l, w_l), ≥ 0; one
            for each residual map.
    """

    logits: Tensor
    similarity: dict[int, Tensor] = field(default_factory=dict)
    importance: dict[int, Tensor] = field(default_factory=dict)
    attended: dict[int, Tensor] = field(default_factory=dict)


def look_inside(network: nn.Module, image: Tensor, residuals: Tensor | None) -> Inside:
    """Run a network on a single slice and record the maps of its compensation units.

    Args:
        network: in evaluation mode; without units only its logits are recorded.
        image: (1, 1 + 2c, h, w), in [0, 1]: a slice and the c neighbours that the network sees.
        residuals: (1, R, h, w), in [0, 1] or signed, or None where the network takes none.

    Returns:
        Maps in float32 on the network's device; those of levels include the network's padding.

    Raises:
        ValueError: more than one slice, or a network in training mode.
    """
    if len(image) != 1 or network.training:
        raise ValueError("expected one slice, and a network in evaluation mode")
    inside = Inside(torch.empty(0))
    with ExitStack() as hooks, torch.inference_mode():
        if isinstance(network, GRCSF):
            for level, unit in network.gcus.items():
                hooks.enter_context(_record_similarity(unit, inside.similarity, int(level)))
            for level, unit in network.rcus.items():
                assert isinstance(unit, RegionalCompensationUnit)
                hooks.enter_context(_record_regional(unit, inside, int(level)))
        inside.logits = network(image, residuals)[0, 0].float()
    return inside


@contextmanager
def _record_similarity(
    unit: nn.Module, similarity: dict[int, Tensor], level: int
) -> Iterator[None]:
    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        similarity[level] = output.float()[0].mean(dim=0)  # (1 or C, h, w) → (h, w)

    with unit.register_forward_hook(keep):
        yield


@contextmanager
def _record_regional(unit: RegionalCompensationUnit, inside: Inside, level: int) -> Iterator[None]:
    """Record the unit's scores and its attention's outputs as maps."""
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
            inside.importance[level] = from_patches(tokens.contiguous(), height, width)[0, 0]
        norms = [torch.linalg.vector_norm(output, dim=-1, keepdim=True) for output in outputs]
        maps = [from_patches(norm, height, width)[0, 0] for norm in norms]
        inside.attended[level] = torch.stack(maps)

    with ExitStack() as hooks:
        hooks.enter_context(unit.attention.register_forward_hook(keep_output))
        if unit.importance is not None:
            hooks.enter_context(unit.importance.register_forward_hook(keep_scores))
        hooks.enter_context(unit.register_forward_hook(arrange))
        yield
