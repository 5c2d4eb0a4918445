"""The columns of the manifest that are the program's own, and what happens to columns of the data of the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data import ImageRecord
from renoise.errors import InputWarning
from renoise.metrics import METRICS

PREFIX = "data_"
"""What is put before the names of columns of the data that are the program's own."""
SOLVED = ("nfe", "residual", "converged", "fell_back")
"""The columns that say how an image was inverted, by the names of the fields of `Inversion`."""
OWN_COLUMNS = {
    *("file_name", "status", "error", "prompt", "edit_prompt", *SOLVED, "seconds"),
    *("inversion", "edits", "members", "image_file"),
}


def renamed(extra: Mapping[str, Any], metrics: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the columns of an image's data under names that are not the program's own.

    Args:
        extra: The columns, see `ImageRecord`.
        metrics: Names of the metrics of the run. Those of all registered metrics are the program's own, too.

    Example:
        >>> from renoise.outputs.columns import renamed
        >>> renamed({"label": 3, "prompt": "a cat", "data_prompt": "a dog"})
        {'label': 3, 'data_data_prompt': 'a cat', 'data_prompt': 'a dog'}
    """
    own = OWN_COLUMNS | METRICS.keys() | set(metrics)
    columns = {}
    for name, value in extra.items():
        free = name
        while free in own or (free != name and free in extra):
            free = PREFIX + free
        columns[free] = value
    return columns


def warn_of_renamed(records: Iterable[ImageRecord], metrics: Iterable[str]) -> None:
    """Warns of columns of the data whose names are the program's own.

    Args:
        records: All images.
        metrics: Names of the metrics of the run.
    """
    metrics = list(metrics)
    found = dict[str, str]()
    for columns in {tuple(record.extra) for record in records}:
        found |= dict(zip(columns, renamed(dict.fromkeys(columns), metrics), strict=True))
    changed = ", ".join(f"{old} as {new}" for old, new in sorted(found.items()) if old != new)
    if changed:
        message = f"columns of the data that have names of the manifest's own are written under others: {changed}"
        rank_zero_warn(message, category=InputWarning)
