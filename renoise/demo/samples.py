"""Sample pictures to begin with, which are installed with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

PACKAGE = "renoise_samples"
SCENES, PHOTOGRAPHS = "scenes", "photographs"
"""Folders of samples: what the miniature models draw, and what full models draw."""
MAX_SAMPLES = 8


@dataclass(frozen=True)
class Sample:
    """A sample picture.

    Args:
        path: The file.
        text: What it shows.
        edit_text: What it could be edited to show.
    """

    path: Path
    text: str
    edit_text: str


def samples(is_miniature: bool) -> list[Sample]:
    """Returns the samples that a model can draw.

    Args:
        is_miniature: Whether the model is one of the miniatures, which draw no photographs.
    """
    folder = Path(str(files(PACKAGE)))
    kind = SCENES if is_miniature else PHOTOGRAPHS
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["file_name"].startswith(f"{kind}/")]
    return [Sample(folder / row["file_name"], row["text"], row["edit_text"]) for row in rows[:MAX_SAMPLES]]
