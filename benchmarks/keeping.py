"""Where the benchmarks keep their figures: a JSON file each, with the machine that they are of."""

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def keep(name: str, figures: Any) -> None:
    """Write `results/<name>.json`."""
    import torch  # here: processes whose memory is measured import the script, too

    RESULTS.mkdir(exist_ok=True)
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    text = json.dumps({"machine": machine, "figures": figures}, indent=1, default=str)
    (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")


def processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
