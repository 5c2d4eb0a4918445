"""The editing methods that are installed."""

from __future__ import annotations

from renoise.editing.base import Editor
from renoise.utils.plugins import load_plugins

ENTRY_POINT_GROUP = "renoise.editors"


def load_editors() -> dict[str, type[Editor]]:
    """Returns every installed editor by its class name. An editor that cannot be used is left out, with a warning."""
    return load_plugins(ENTRY_POINT_GROUP, Editor)
