"""Classes that installed packages register under an entry-point group: editors, inversion methods, model families."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import TypeVar

from renoise.errors import InputWarning

Base = TypeVar("Base")


def load_plugins(group: str, base: type[Base]) -> dict[str, type[Base]]:
    """Imports every class that is registered under a group. Importing them lets YAML use their short names.

    A class is left out, with a warning, where it cannot be imported, is not a subclass of `base`, or has the name of
    a class that was found before.

    Args:
        group: Entry-point group, such as `renoise.editors`.
        base: Base class of the plugins.

    Returns:
        The classes by their class names.

    Example:
        >>> from renoise.utils.plugins import load_plugins
        >>> load_plugins("a.group.that.nobody.uses", object)
        {}
    """
    found: dict[str, type[Base]] = {}
    for entry_point in entry_points(group=group):
        problem: str | None
        try:
            plugin = entry_point.load()
        except Exception as error:  # another package's import may raise anything; the other plugins must still load
            plugin, problem = None, f"cannot be imported: {error}"
        else:
            problem = _problem(plugin, base, found)
        if problem is None:
            found[plugin.__name__] = plugin
        else:
            message = f"{group}: {entry_point.name} ({entry_point.value}) {problem}"
            warnings.warn(message, InputWarning, stacklevel=2)
    return found


def _problem(plugin: object, base: type[Base], found: dict[str, type[Base]]) -> str | None:
    """Returns why an imported plugin cannot be used, or None."""
    if not (isinstance(plugin, type) and issubclass(plugin, base)):
        return f"is not a subclass of {base.__module__}.{base.__qualname__}"
    if found.get(plugin.__name__, plugin) is not plugin:
        return f"is left out, because another class is called {plugin.__name__}; use full class paths"
    return None
