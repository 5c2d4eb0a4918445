"""Checks the files of a local checkpoint before the libraries read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from renoise.errors import InputError

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Files that hold a tokenizer's vocabulary. One of them is enough."""


def check_parts(checkpoint: str, index: dict[str, Any]) -> None:
    """Raises InputError where a local checkpoint lacks a part or has a damaged one.

    The libraries do not always complain: without its configuration a text encoder gets random weights, and without its
    vocabulary a tokenizer knows no word.
    """
    if not Path(checkpoint).is_dir():
        return
    parts = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    problems = {name: _problem(Path(checkpoint) / name) for name in parts if name != "safety_checker"}
    found = "; ".join(f"the part {name} {problem}" for name, problem in problems.items() if problem)
    if found:
        raise InputError(f"checkpoint: {checkpoint}: {found}")


def _problem(part: Path) -> str | None:
    """Returns what is wrong with the folder of one part of a pipeline, or None."""
    if not part.is_dir():
        return "is missing"
    if not any(part.glob("*config.json")):
        return "has no configuration"
    if part.name.startswith("tokenizer") and not any((part / name).exists() for name in VOCABULARIES):
        return f"has no vocabulary ({' or '.join(VOCABULARIES)})"
    for path in sorted(part.iterdir()):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass  # the header tells whether the file is complete
        except (OSError, ValueError, SafetensorError) as error:
            return f"has a damaged {path.name} ({error})"
    return None
