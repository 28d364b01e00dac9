"""Masked models at lower precision, and with compiled layers.

The products of the transformer's linear layers take most of the time and are lowered. The embedding
of the patches, the sums along the residual stream and an MAE's last layers take little and stay in
float32: rounding in the last layers would dominate the error of a small residual.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from grcsf.autocast import without_autocast
from grcsf.mae.build import MaskedModel
from grcsf.mae.model import MaskedAutoencoder
from grcsf.mae.transformer import Attention

Precision = Literal["fp32", "bf16", "int8"]


def at_precision(model: MaskedModel, precision: Precision) -> MaskedModel:
    """A copy of a trained model for use under `torch.autocast` in bf16, or the model itself.

    Args:
        model: with weights in float32.
        precision: `fp32` changes nothing. `bf16` stores the weights of linear layers in bf16, which
            autocast would cast at every call; an MAE's last transformer layer and the head stay
            in float32. `int8` also multiplies the encoder's layers in 8 bits: weights scaled by
            output channel, activations by tensor at each call; CPUs only.

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
        multiply_attention(lowered)
    return lowered


def multiply_attention(model: nn.Module) -> None:
    """Attention as two products: on a CPU faster than the fused call for some hundred tokens.

    In training it saves the more, as the fused call computes its scores once more for gradients.
    """
    for part in model.modules():
        if isinstance(part, Attention):
            part.fused = False


def compile_layers(model: MaskedModel) -> None:
    """Let `torch.compile` join the small operations between a model's large matrix products.

    A transformer layer compiles at its first call, once for all numbers of visible patches and all
    batches except that of a single sequence. Layers in 8 bits stay as they are: `torch.compile`
    cannot look into their products.

    Args:
        model: at its precision, and on its device.
    """
    config = torch._dynamo.config  # torch imports its compiler here, which takes most of a second
    # The limit holds for the code that all layers share; 8 is too low for MAEs of several widths.
    config.recompile_limit = max(64, config.recompile_limit)
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                if any(isinstance(child, Int8Linear) for child in layer.modules()):
                    continue
                (layer.layer if isinstance(layer, InFloat32) else layer).compile(dynamic=True)


class InFloat32(nn.Module):
    """A transformer layer that computes in float32 under autocast: tokens (N, L, D) → (N, L, D).

    On a GPU its linear layers round their factors to TF32, with 10 bits where bf16 has 7.

    Args:
        layer: with weights in float32.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor, **options: Any) -> Tensor:
        """(N, L, D) of any precision → (N, L, D) float32."""
        with without_autocast(tokens), _tf32():
            output: Tensor = self.layer(tokens.float(), **options)
        return output


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

    Activations have 7 bits and a sign, so that sums of products overflow on no processor.

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
