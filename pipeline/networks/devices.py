"""The devices that this machine offers to torch, and its compiler."""

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from pipeline.errors import PipelineError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compute_device(gpus: int) -> torch.device:
    """The device of a job with this number of GPUs: a GPU, or the CPU for 0.

    Raises:
        PipelineError: the machine has fewer GPUs.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PipelineError(
            f"resources.gpus: found {gpus}, but this machine offers no GPU to torch; set it to 0 "
            "or run on a machine with one"
        )
    if gpus > torch.cuda.device_count():
        raise PipelineError(
            f"resources.gpus: found {gpus}, but this machine offers {torch.cuda.device_count()}; "
            "lower it or run on a machine with more"
        )
    return torch.device("cuda")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 matrix units, so that bf16 is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capability = torch.backends.cpu.get_cpu_capability()
    # AVX-512 multiplies bf16 natively only with its own extension
    return "AVX512" in capability and bool(torch.cpu._is_avx512_bf16_supported())


def fetch(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start a copy to the CPU; the function waits for it, not for later work, and returns it."""
    if tensor.device.type == "cpu":
        return lambda: tensor
    arriving = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    arriving.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> torch.Tensor:
        arrived.synchronize()
        return arriving

    return wait


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, compiled at its first call for tensors of these shapes alone.

    What drops out is drawn as it is without compiling.
    """
    return torch.compile(function, dynamic=False, options={"fallback_random": True})


def compile_fault(error: Exception) -> PipelineError | None:
    """The line for a machine that cannot compile; None for other errors."""
    # torch imports its compiler, most of a second, only where something is compiled
    if "torch._dynamo" not in sys.modules:
        return None
    if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return None
    return PipelineError(
        f"resources.compile: torch cannot compile here ({_reason(error)}); install what is "
        "missing, or set resources.compile: false"
    )


def _reason(error: Exception) -> str:
    """The line that gives the reason, in the output of a compiler, Triton or torch itself."""
    cause = getattr(error, "inner_exception", error)
    output = getattr(cause, "output", "") or getattr(cause, "details", "") or str(cause)
    lines = [line.strip() for line in str(output).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return [type(cause).__name__, *lines[-1:], *errors[:1]][-1][:300]
