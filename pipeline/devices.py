"""The devices that a machine offers to torch."""

import torch

from pipeline.errors import PipelineError


def compute_device(gpus: int) -> torch.device:
    """The GPU that the job was given, or the CPU.

    Raises:
        PipelineError: a GPU is asked for where there is none.
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
    # AVX-512 alone is no bf16: only the extension multiplies it natively
    return "AVX512" in capability and bool(torch.cpu._is_avx512_bf16_supported())
