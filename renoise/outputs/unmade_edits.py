"""Says which editors made nothing in a whole run, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def unmade_edits(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns one line for each editor without any edited image: its name, and the most frequent reason.

    Args:
        rows: Rows of the manifest.

    Example:
        >>> from renoise.outputs.unmade_edits import unmade_edits
        >>> unmade_edits([{"edits": {"PromptSwap": "the image has no edit_text"}}, {"edits": {"NullText": "ok"}}])
        ['no edits by PromptSwap: the image has no edit_text']
    """
    reasons: dict[str, Counter[str]] = {}
    for row in rows:
        for editor, outcome in (row.get("edits") or {}).items():
            reasons.setdefault(editor, Counter())[outcome] += 1
    lines = []
    for editor, outcomes in reasons.items():
        if "ok" not in outcomes:
            reason, count = outcomes.most_common(1)[0]
            share = (
                "" if len(outcomes) == 1 else f" ({count} of {outcomes.total()} images, the others for other reasons)"
            )
            lines.append(f"no edits by {editor}: {reason}{share}")
    return lines
