"""What a network costs: parameters, multiply-accumulates, memory [Table 1].

docs/reference/complexity.md explains the figures.

A MAC is one multiplication with its addition; the paper's "GFLOPs" are billions of MACs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


class KeptTensor(NamedTuple):
    """One piece of memory that the backward pass waits for; `size` in bytes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    size: int


class _FalseTensors(TorchFunctionMode):
    """Every tensor is false: initialisers draw anew *while* a value is out of range."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__bool__:
            return False
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only(*, as_on_cpu: bool = False) -> Iterator[None]:
    """Tensors made in this context have a shape and no content, and take no memory.

    The functions below count networks of such tensors at once, whatever their size. Call them
    after the context is left.

    Args:
        as_on_cpu: autocast changes their type as it does the CPU's, and they meet tensors that have
            a content, such as masks. Counting takes three times as long.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True) if as_on_cpu else torch.device("meta")
    with mode, _FalseTensors():
        yield


def parameter_count(network: nn.Module) -> int:
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def true_macs(network: nn.Module, *inputs: Tensor | None) -> int:
    """MACs of the convolutions and matrix products of one forward pass, attention included.

    Sums, activations, normalisation and resizing are not counted.

    Args:
        network: in evaluation mode.
        inputs: the arguments of its `forward`.
    """
    # The counter misses the CPU's fused attention kernel; it sees the plain one as two products.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        network(*inputs)
    return int(counter.get_total_flops()) // 2


def paper_counts(network: nn.Module, *inputs: Tensor | None) -> tuple[int, int]:
    """MACs and parameters as the paper counted them, with thop 0.1 [Table 1].

    thop counts only called modules of known kinds. It misses a bare `nn.Parameter` and the products
    of a function (attention). It includes normalisation, pooling and bilinear upsampling, and
    counts a transposed convolution of kernel and stride 2 fourfold.

    Args:
        network: in evaluation mode.
        inputs: the arguments of its `forward`.

    Raises:
        ModuleNotFoundError: thop is not installed.
    """
    from thop import profile

    macs, parameters = profile(network, inputs, verbose=False)
    for module in network.modules():  # thop leaves its counters in unknown modules
        for name in ("total_ops", "total_params"):
            module._buffers.pop(name, None)
    return int(macs), int(parameters)


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Peak memory of a call in bytes, beyond the memory held before it.

    On the CPU torch's profiler reports each allocation and release, scratch space of convolutions
    and attention included. On a GPU the caching allocator reports its peak.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def kept_for_backward(run: Callable[[], Tensor], owned: Sequence[Tensor]) -> list[KeptTensor]:
    """The memory that a forward pass leaves for its backward pass, largest first.

    Args:
        run: a forward pass, to the loss.
        owned: tensors that are there anyway, such as parameters and inputs; they do not count.

    Returns:
        One entry for each piece of memory, however many tensors share it; the shape is that of
        the first that was kept.
    """
    known = {tensor.untyped_storage()._cdata for tensor in owned}
    kept: dict[int, KeptTensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            one = KeptTensor(tuple(tensor.shape), tensor.dtype, storage.nbytes())
            kept.setdefault(storage._cdata, one)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result  # not before: what it holds keeps one address from standing for two pieces
    return sorted(kept.values(), key=lambda one: -one.size)
