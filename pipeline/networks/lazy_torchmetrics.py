"""Lightning without all the metrics that it imports.

Lightning asks torchmetrics for two base classes, and the `__init__` of torchmetrics imports the
metrics of every field: with scipy, transformers and torchvision they take longer than torch and
Lightning do. So the package is imported without its `__init__`, which runs when somebody asks for
another name.
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
MODULES = {
    "Metric": f"{PACKAGE}.metric",
    "MetricCollection": f"{PACKAGE}.collections",
    "__version__": f"{PACKAGE}.__about__",
}


class LazyFinder(MetaPathFinder):
    """Finds torchmetrics, and no other package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the package lies, with a loader that puts its `__init__` off."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == PACKAGE else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class LazyLoader(Loader):
    """Makes a package whose `__init__` runs when somebody asks for a name outside `MODULES`."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: Any) -> None:
        """Give the package what Lightning and its own modules ask it for."""

        def attribute(name: str) -> Any:
            if name in MODULES:
                import_module(f"{PACKAGE}.utilities")  # first, as it and `metric` import each other
                return getattr(import_module(MODULES[name]), name)
            if name.startswith("__"):
                raise AttributeError(name)
            del module.__getattr__
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = attribute
        module._logger = logging.getLogger(PACKAGE)  # its modules take it from there


def put_off_metrics() -> None:
    """Let `import torchmetrics` import no metric from now on."""
    if not any(isinstance(finder, LazyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LazyFinder())
