"""Classes that installed packages register under an entry-point group: editors, inversion methods, model families."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import TypeVar

from renoise.errors import InputWarning

Base = TypeVar("Base")


def load_plugins(group: str, base: type[Base]) -> dict[str, type[Base]]:
    """Imports every class that is registered under a group. Importing them lets YAML use their short names.

    A class that cannot be imported, is not a subclass of `base`, or has the name of another one, is named in a warning
    and left out.

    Args:
        group: Entry-point group, such as `renoise.editors`.
        base: What the classes must derive from.

    Returns:
        The classes by their class names.
    """
    found: dict[str, type[Base]] = {}
    for entry_point in entry_points(group=group):
        plugin, problem = None, ""
        try:
            plugin = entry_point.load()
        except Exception as error:  # a package of somebody else may raise anything; the others must still load
            problem = f"cannot be imported: {error}"
        else:
            if not (isinstance(plugin, type) and issubclass(plugin, base)):
                problem = f"is not a subclass of {base.__module__}.{base.__qualname__}"
            elif found.get(plugin.__name__, plugin) is not plugin:
                problem = f"is left out, because another class is called {plugin.__name__}; use full class paths"
        if problem:
            described = f"{group}: {entry_point.name} ({entry_point.value}) {problem}"
            warnings.warn(described, InputWarning, stacklevel=2)
        elif plugin is not None:
            found[plugin.__name__] = plugin
    return found
