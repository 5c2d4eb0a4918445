"""Finds the installed inversion methods."""

from __future__ import annotations

from renoise.inversion.base import Inverter
from renoise.utils.plugins import load_plugins

ENTRY_POINT_GROUP = "renoise.inversions"


def load_inverters() -> dict[str, type[Inverter]]:
    """Returns every registered inversion method by its class name; see `load_plugins`."""
    return load_plugins(ENTRY_POINT_GROUP, Inverter)
