"""Where the benchmarks keep their figures: one JSON file, with the machine that they are of."""

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS / "figures.json"


def keep(name: str, figures: Any) -> None:
    """Put a benchmark's figures into `results/figures.json`, and leave the others'."""
    import torch  # here: processes whose memory is measured import the script, too

    RESULTS.mkdir(exist_ok=True)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    known = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    known[name] = {"machine": machine, "figures": figures}
    FIGURES.write_text(json.dumps(known, indent=1, default=str) + "\n", "utf-8")


def processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
