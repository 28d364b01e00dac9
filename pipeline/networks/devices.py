"""The devices that this machine offers to torch."""

from collections.abc import Callable

import torch

from pipeline.errors import PipelineError


def compute_device(gpus: int) -> torch.device:
    """The device of a job with this number of GPUs: a GPU, or the CPU for 0.

    Raises:
        PipelineError: the machine has fewer GPUs.
    """
    if gpus == 0:
        return torch.device("cpu")
    found = f"resources.gpus: found {gpus}, but this machine offers"
    if not torch.cuda.is_available():
        raise PipelineError(f"{found} no GPU to torch; set it to 0 or run on a machine with one")
    if gpus > (count := torch.cuda.device_count()):
        raise PipelineError(f"{found} {count}; lower it or run on a machine with more")
    return torch.device("cuda")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 matrix units, so that bf16 is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # AVX-512 multiplies bf16 natively only with its own extension
    capability = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in capability and bool(torch.cpu._is_avx512_bf16_supported())


def fetch(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start copying a tensor to the CPU; the result waits for this copy only, and returns it."""
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
