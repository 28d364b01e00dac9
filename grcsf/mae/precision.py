"""Masked models that compute at lower precision where it does little harm, and compiled.

What is large is lowered: the products of the transformer's linear layers. What is small stays in
float32: the embedding of the patches, the sums along the residual stream, and an MAE's last layers,
where rounding would make most of a small residual's error.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from grcsf.mae.build import MaskedModel
from grcsf.mae.model import MaskedAutoencoder
from grcsf.mae.transformer import Attention

Precision = Literal["fp32", "bf16", "int8"]


def at_precision(model: MaskedModel, precision: Precision) -> MaskedModel:
    """A copy of a trained model for use under `torch.autocast` in bf16, or the model itself.

    Args:
        model: with weights in float32.
        precision: `fp32` changes nothing. `bf16` keeps weights of linear layers in bf16, which
            autocast would cast anew at every call, but those of an MAE's last transformer layer
            and of the head. `int8` also multiplies the encoder's in 8 bits: weights scaled by
            output channel, activations by tensor as they come; CPUs only.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: found {precision!r}, expected fp32, bf16 or int8")
    if precision == "fp32":
        return model
    lowered = copy.deepcopy(model).requires_grad_(False)
    for name, layer in list(lowered.named_modules()):
        if not isinstance(layer, nn.Linear) or name.startswith(model.head):
            continue
        if precision == "int8" and name.startswith(model.encoder):
            parent, _, own = name.rpartition(".")
            setattr(lowered.get_submodule(parent), own, Int8Linear(layer))
        else:
            layer.to(torch.bfloat16)
    if isinstance(model, MaskedAutoencoder):
        last = f"decoder_blocks.{len(model.decoder_blocks) - 1}"
        exact = copy.deepcopy(model.get_submodule(last)).requires_grad_(False)
        lowered.set_submodule(last, InFloat32(exact))
    if next(lowered.parameters()).device.type == "cpu":
        _multiply_attention(lowered)
    return lowered


def _multiply_attention(model: nn.Module) -> None:
    """Attention as two products: of some hundred tokens a CPU makes them faster than fused."""
    for part in model.modules():
        if isinstance(part, Attention):
            part.fused = False


def compile_layers(model: MaskedModel) -> None:
    """Let `torch.compile` join the small operations between a model's large matrix products.

    Its transformer layers are compiled when they are first called, for every number of visible
    patches and every batch at once but that of a single sequence. Those in 8 bits are left alone:
    `torch.compile` cannot look into their products.

    Args:
        model: at its precision, and on its device.
    """
    config = torch._dynamo.config  # torch imports its compiler here, in most of a second
    # counted for the code that all layers share: torch's 8 are too few for MAEs of several widths
    config.recompile_limit = max(64, config.recompile_limit)
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                if any(isinstance(one, Int8Linear) for one in layer.modules()):
                    continue
                (layer.layer if isinstance(layer, InFloat32) else layer).compile(dynamic=True)


class InFloat32(nn.Module):
    """A transformer layer that computes in float32 under autocast: tokens (N, L, D) → (N, L, D).

    A GPU rounds what its linear layers multiply to TF32, with 10 bits where bf16 has 7.

    Args:
        layer: with weights in float32.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor, **options: Any) -> Tensor:
        """(N, L, D) of any precision → (N, L, D) float32."""
        with torch.autocast(tokens.device.type, enabled=False), _tf32():
            found: Tensor = self.layer(tokens.float(), **options)
        return found


@contextmanager
def _tf32() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = before


class Int8Linear(nn.Module):
    """A linear layer in 8 bits on the CPU: (..., in) → (..., out) float32.

    Activations are scaled to 7 bits and a sign, so that sums of products overflow on no processor.

    Args:
        linear: the layer in float32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        quantised = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack(quantised, bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in) of any precision → (..., out) float32."""
        product: Tensor = torch.ops.quantized.linear_dynamic(
            tokens.float(), self._packed, reduce_range=True
        )
        return product
