"""ReNoise: real image inversion through iterative noising (arXiv 2403.14602)."""

from __future__ import annotations

from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from renoise.outputs.saved_inversions import SavedInversions

__version__ = version("renoise")


def load_inversions(folder: str | PathLike[str]) -> SavedInversions:
    """What a run left in its output folder, as a map-style data set; see `renoise.outputs.saved_inversions.SavedInversions`."""
    from renoise.outputs.saved_inversions import SavedInversions  # torch takes its time, which not everybody needs

    return SavedInversions(folder)
