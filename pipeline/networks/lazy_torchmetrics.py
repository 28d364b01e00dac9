"""torchmetrics, which imports its metrics when one of them is asked for.

Lightning asks it for two base classes, and `import torchmetrics` brings the metrics of every field:
with scipy, transformers and torchvision they take longer to import than torch and Lightning do.
So its package is imported without its `__init__`, which runs when something else is asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PACKAGE = "torchmetrics"
HOMES = {
    "Metric": f"{PACKAGE}.metric",
    "MetricCollection": f"{PACKAGE}.collections",
    "__version__": f"{PACKAGE}.__about__",
}


def put_off_metrics() -> None:
    """Let `import torchmetrics` import no metric, where it has not been imported yet."""
    if not any(isinstance(finder, LazyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LazyFinder())


class LazyFinder(MetaPathFinder):
    """Finds torchmetrics alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where it lies, with a loader that puts its `__init__` off."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == PACKAGE else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class LazyLoader(Loader):
    """Makes a package whose `__init__` runs when a name is asked for that `HOMES` does not have."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: Any) -> None:
        """Give the package what its own modules and Lightning ask it for."""

        def asked_for(name: str) -> Any:
            if name in HOMES:
                import_module(f"{PACKAGE}.utilities")  # before its `metric`: each imports the other
                return getattr(import_module(HOMES[name]), name)
            if name.startswith("__"):
                raise AttributeError(name)
            del module.__getattr__
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = asked_for
        module._logger = logging.getLogger(PACKAGE)
