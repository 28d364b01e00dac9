"""The optimiser of masked training: Adam (section 4.3), or AdamW, as MAE was published with."""

from typing import Any

import torch
from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: those that decay, then norms and biases, which do not.

    Norms and biases are the parameters of one axis.
    """
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    decayed = [weights for weights in trained if weights.ndim > 1]
    kept = [weights for weights in trained if weights.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def build_optimiser(
    model: nn.Module,
    kind: str,
    rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    *,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Adam, or AdamW with its decay on all weights but norms and biases.

    Args:
        model: the masked model.
        kind: `adam` or `adamw`.
        rate: learning rate.
        betas: decay of the first and second moment.
        weight_decay: of AdamW only.
        fused: update all weights in one pass over them, which changes nothing but rounding. Not
            where gradients are scaled, as for fp16: it would unscale them itself, after clipping.

    Raises:
        ValueError: another kind.
    """
    if kind == "adamw":
        return torch.optim.AdamW(
            decay_groups(model, weight_decay), lr=rate, betas=betas, fused=fused
        )
    if kind != "adam":
        raise ValueError(f"no optimiser is called {kind!r}; there are: adam, adamw")
    return torch.optim.Adam(model.parameters(), lr=rate, betas=betas, fused=fused)
