"""What the tests of `renoise demo` share."""

from __future__ import annotations

import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CAT = REPOSITORY / "data/images/scenes/00-cat.png"
TEXT, EDIT_TEXT = "a cat on a checkered green background", "a dog on a checkered green background"
MODEL = "data/models/tiny-sdxl-turbo"
"""Its preset takes four steps."""


def words(command: str) -> list[str]:
    """The words of a command as a shell reads them."""
    return shlex.split(command.replace("\\\n", " "))
