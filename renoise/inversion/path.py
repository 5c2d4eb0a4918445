"""What a method needs of another one whose trajectory it follows."""

from __future__ import annotations

from renoise.inversion.base import Inverter


def check_path(path: Inverter, needed_by: str) -> None:
    """Raises ValueError where a method is to follow the trajectory of another one that has a sampler of its own.

    Args:
        path: The other method.
        needed_by: Name of the method, for the message.
    """
    if path.sampler is not None:
        raise ValueError(
            f"{needed_by} takes the steps of the schedule along its path, and {type(path).__name__} has a sampler of "
            "its own; take DDIM or ReNoise as path"
        )
