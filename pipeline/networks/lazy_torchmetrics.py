"""torchmetrics, which imports its metrics when one of them is asked for.

Lightning asks it for two base classes, and `import torchmetrics` brings the metrics of every field:
with scipy, transformers and torchvision they take longer to import than torch and Lightning do.
So its package is made here without its `__init__`, which runs when something else is asked for.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

PACKAGE = "torchmetrics"
HOMES = {
    "Metric": f"{PACKAGE}.metric",
    "MetricCollection": f"{PACKAGE}.collections",
    "__version__": f"{PACKAGE}.__about__",
}


def put_off_torchmetrics() -> None:
    """Let `import torchmetrics` import no metric, where it has not been imported yet."""
    if PACKAGE in sys.modules:
        return
    spec = find_spec(PACKAGE)
    if spec is None or spec.loader is None:  # the stages that import no Lightning do without it
        return
    package: Any = module_from_spec(spec)
    start = spec.loader.exec_module

    def asked_for(name: str) -> Any:
        if name in HOMES:
            import_module(f"{PACKAGE}.utilities")  # before its `metric`: each imports the other
            return getattr(import_module(HOMES[name]), name)
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        start(package)
        return getattr(package, name)

    package.__getattr__ = asked_for
    package._logger = logging.getLogger(PACKAGE)  # of its warnings
    sys.modules[PACKAGE] = package
