"""What a process holds in memory."""

import re
import resource
import sys
from pathlib import Path

# getrusage's unit: 1,024 bytes, but on macOS 1
KILOBYTE = 1 if sys.platform == "darwin" else 1024


def peak_resident() -> int:
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
