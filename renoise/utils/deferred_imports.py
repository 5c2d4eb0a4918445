"""Spares the command line imports that it does not need, and searching what they made for garbage."""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def without_collection() -> Iterator[None]:
    """Imports modules inside the block without garbage collection, which never searches what they made later either.

    Modules stay until the program ends, when all memory is freed at once. The collector would search them again and
    again while they are imported, and at the end. A second call in the same process changes nothing, because what a
    run made before it may be garbage.
    """
    if not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
