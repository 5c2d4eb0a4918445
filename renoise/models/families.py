"""The model families that are installed, and what each was checked with."""

from __future__ import annotations

from renoise.models.base import DiffusionModel
from renoise.utils.plugins import load_plugins

ENTRY_POINT_GROUP = "renoise.models"


def load_families() -> dict[str, type[DiffusionModel]]:
    """Returns every installed family by the name of its pipeline class. One that cannot be used is left out."""
    families = load_plugins(ENTRY_POINT_GROUP, DiffusionModel).values()
    return {family.pipeline_class: family for family in sorted(families, key=lambda each: each.pipeline_class)}


def describe_families() -> list[str]:
    """Returns a line for each family: its pipeline class, what it is, and what it was checked with.

    Example:
        >>> from renoise.models.families import describe_families
        >>> for line in describe_families()[-3:-1]:
        ...     print(line)
        StableDiffusionPipeline: Stable Diffusion 1.x and 2.x
          checked with the shipped tiny-sd, trained; not with real weights
        StableDiffusionXLPipeline: SDXL and the few-step models distilled from it
          checked with the shipped tiny-sdxl-turbo, trained; not with real weights
    """
    lines = []
    for name, family in load_families().items():
        title = (family.__doc__ or family.__name__).strip().split("\n")[0].partition("; see ")[0].rstrip(".")
        checked = f"\n  checked with {family.checked_with}; not with real weights" if family.checked_with else ""
        lines.append(f"{name}: {title}{checked}")
    return lines
