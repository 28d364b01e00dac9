"""What the machine offers, and how much of it a job may use."""

import re
import resource
import sys
from pathlib import Path

import torch

from pipeline.errors import PipelineError

# getrusage's unit: 1,024 bytes, but on macOS 1
KILOBYTE = 1 if sys.platform == "darwin" else 1024


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


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes.

    The kernel's count of the process image comes first: `getrusage` also remembers
    the program that started this one, whose size a child takes over.
    """
    status = Path("/proc/self/status")
    if status.exists() and (
        found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text("utf-8"), re.MULTILINE)
    ):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE
