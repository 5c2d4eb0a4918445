"""Words that are near to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the nearest known one. Empty where none is near.

    Args:
        wrong: The name.
        known: All names.

    Example:
        >>> from renoise.utils.alternatives import did_you_mean
        >>> did_you_mean("sdxl_turb", ["sd14", "sdxl_turbo"])
        '; did you mean sdxl_turbo?'
    """
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
