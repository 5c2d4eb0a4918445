"""Spares the command line imports that it does not need."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

LIGHTNING_NEEDS = {"Metric": "torchmetrics.metric", "MetricCollection": "torchmetrics.collections"}
"""The names that Lightning imports from `torchmetrics`, and the modules that define them."""


def defer_torchmetrics() -> None:
    """Lets `import lightning` import the two classes that it needs of torchmetrics, and not scipy and matplotlib too.

    They are the classes themselves. The package runs its own code, which takes seconds, when anything else is
    asked of it. Where another version of torchmetrics does not allow this, it is imported as usual.
    """
    spec = find_spec("torchmetrics")
    if "torchmetrics" in sys.modules or spec is None or spec.loader is None:
        return
    package, loader = module_from_spec(spec), spec.loader

    def load(name: str) -> Any:
        if vars(package).pop("__getattr__", None) is not None:
            loader.exec_module(package)
            return getattr(package, name)
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    sys.modules["torchmetrics"] = package
    try:
        _add_what_lightning_needs(package)
    except ImportError:
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
            del sys.modules[module]
    else:
        vars(package)["__getattr__"] = load


def _add_what_lightning_needs(package: ModuleType) -> None:
    attributes = vars(package)
    attributes["__version__"] = version(package.__name__)
    attributes["_logger"] = logging.getLogger(package.__name__)  # its modules import it from the package
    import_module("torchmetrics.utilities")  # before `metric`, which it imports while it is imported itself
    for name, module in LIGHTNING_NEEDS.items():
        attributes[name] = getattr(import_module(module), name)
