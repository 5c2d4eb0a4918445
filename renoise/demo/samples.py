"""Sample pictures to begin with, which are installed with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

SCENES, PHOTOGRAPHS = "renoise_scenes", "renoise_photographs"
"""Packages of samples: what the miniature models draw, and what full models draw."""
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
    folder = Path(str(files(SCENES if is_miniature else PHOTOGRAPHS)))
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:MAX_SAMPLES]]
    return [Sample(folder / row["file_name"], row["text"], row["edit_text"]) for row in rows]
