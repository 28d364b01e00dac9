"""How much the compensation units of a network change the features that they are given."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from grcsf.models.gcu import GlobalCompensationUnit, SkipUnit
from grcsf.models.grcsf import GRCSF
from grcsf.models.rcu import RegionalCompensationUnit


def units_of(network: nn.Module) -> dict[str, nn.Module]:
    """The units by kind and level (0 is full scale, 3 is 1/8): `gcu_0`, `rcu_2` and so on."""
    if not isinstance(network, GRCSF):
        return {}
    units = {f"gcu_{level}": unit for level, unit in network.gcus.items()}
    return units | {f"rcu_{level}": unit for level, unit in network.rcus.items()}


def unit_factors(network: nn.Module) -> dict[str, Tensor]:
    """The learnt scalars before what units add, without gradient.

    `rcu_2_w1` is W₁ of Eq. 6 times the attention's own factor, which Eq. 6 does not print and which
    makes no difference of its own; `gcu_0_a` is the factor of R, where the unit has one.
    """
    factors: dict[str, Tensor] = {}
    for name, unit in units_of(network).items():
        if isinstance(unit, GlobalCompensationUnit) and unit.scale is not None:
            factors[f"{name}_a"] = unit.scale.detach()
        if isinstance(unit, RegionalCompensationUnit):
            weights = unit.map_weights.detach() * unit.attention.scale.detach()
            factors |= {f"{name}_w{place}": each for place, each in enumerate(weights, start=1)}
    return factors


@contextmanager
def recorded_contributions(network: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """Record, by unit, ‖changed − given‖ / ‖given‖ of the features in forward passes of this block.

    The norm is over a whole batch, in float32. A unit on the skips is measured on the encoder's
    feature X^{l,0}. 0 = the unit changes nothing; all-zero features count as unchanged.
    """
    found: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(unit: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # a unit on the skips gives the map with which it changes them
            changed = unit.update(inputs[0], output) if isinstance(unit, SkipUnit) else output
            found[name] = _relative_change(inputs[0], changed)

        return keep

    with ExitStack() as hooks:
        for name, unit in units_of(network).items():
            hooks.enter_context(unit.register_forward_hook(recorder(name)))
        yield found


def _relative_change(given: Tensor, changed: Tensor) -> Tensor:
    given, changed = given.detach().float(), changed.detach().float()
    norm = torch.linalg.vector_norm(given)
    share: Tensor = torch.linalg.vector_norm(changed - given) / norm.clamp(min=torch.finfo().tiny)
    return share
