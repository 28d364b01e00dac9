"""torchmetrics, which imports its metrics when one of them is asked for.

Lightning asks it for two base classes, and `import torchmetrics` brings the metrics of every field:
with scipy, transformers and torchvision they take longer to import than torch and Lightning do.
So two of its packages are imported without their `__init__`, which runs when a name is asked for
that is not known here. Its plots are left out: matplotlib would come along with the base class.
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

HOMES = {
    "torchmetrics": {
        "Metric": "torchmetrics.metric",
        "MetricCollection": "torchmetrics.collections",
        "__version__": "torchmetrics.__about__",
    },
    "torchmetrics.utilities": {"rank_zero_warn": "torchmetrics.utilities.prints"},
}
"""Package → the names that Lightning and the two classes ask it for → their modules."""


def put_off_metrics() -> None:
    """Let `import torchmetrics` import no metric, where it has not been imported yet."""
    if not any(isinstance(finder, LazyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LazyFinder())


class LazyFinder(MetaPathFinder):
    """Finds the packages of `HOMES` alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a package lies, with a loader that puts its `__init__` off."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in HOMES else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


class LazyLoader(Loader):
    """Makes a package whose `__init__` runs when a name is asked for that `HOMES` does not have."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: Any) -> None:
        """Give the package what its own modules and Lightning ask it for."""
        homes = HOMES[module.__name__]

        def asked_for(name: str) -> Any:
            if name in homes:
                available: Any = import_module("torchmetrics.utilities.imports")
                available._MATPLOTLIB_AVAILABLE = False
                return getattr(import_module(homes[name]), name)
            if name.startswith("__"):
                raise AttributeError(name)
            del module.__getattr__
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = asked_for
        module._logger = logging.getLogger(module.__name__)
