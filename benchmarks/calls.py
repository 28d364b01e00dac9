"""Commands that are measured: seconds, the processor's time, and their own peak memory.

A process inherits the peak of the one that starts it, so a small one of this module stands between.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Call(NamedTuple):
    """What a command took, and what it said."""

    wall: float  # seconds
    processor: float  # seconds, of all its processes
    peak_mb: float  # of the largest of its processes
    output: str


def measured(command: Sequence[str | Path], folder: Path) -> Call:
    """Call a command in a folder.

    Raises:
        RuntimeError: it has failed; the message is what it said.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
        between = [sys.executable, Path(__file__).absolute(), output.name, *command]
        done = subprocess.run(between, cwd=folder, stdout=subprocess.PIPE, check=True)
        taken, told = json.loads(done.stdout), output.read()
    if taken.pop("status"):
        raise RuntimeError(told)
    return Call(**taken, output=told)


def main(output: str, *command: str) -> None:
    """Call a command, write what it says to a file, and print what it took."""
    started = time.perf_counter()
    with Path(output).open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    wall, processor = time.perf_counter() - started, used.ru_utime + used.ru_stime
    taken = {"wall": wall, "processor": processor, "peak_mb": used.ru_maxrss / 1024}
    print(json.dumps({"status": status, **taken}))


if __name__ == "__main__":
    main(*sys.argv[1:])
