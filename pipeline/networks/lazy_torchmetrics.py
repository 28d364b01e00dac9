"""Lightning without all the metrics that it imports.

Lightning asks torchmetrics for two base classes, and the `__init__` of torchmetrics imports the
metrics of every field: with scipy, transformers and torchvision they take longer than torch and
Lightning do. So the package stands here without its `__init__`, which runs when somebody asks for
another name.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

PACKAGE = "torchmetrics"
MODULES = {
    "Metric": f"{PACKAGE}.metric",
    "MetricCollection": f"{PACKAGE}.collections",
    "__version__": f"{PACKAGE}.__about__",
}


def put_off_metrics() -> None:
    """Let `import torchmetrics` import no metric, unless it did so already or is not installed."""
    spec = None if PACKAGE in sys.modules else find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        return
    package: Any = module_from_spec(spec)
    run_init = spec.loader.exec_module

    def attribute(name: str) -> Any:
        if name in MODULES:
            import_module(f"{PACKAGE}.utilities")  # first, as it and `metric` import each other
            return getattr(import_module(MODULES[name]), name)
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        run_init(package)
        return getattr(package, name)

    package.__getattr__ = attribute
    package._logger = logging.getLogger(PACKAGE)  # its modules take it from there
    sys.modules[PACKAGE] = package
