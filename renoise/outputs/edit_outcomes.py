"""Says how many edits every editor made in a whole run, and why it made no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from renoise.utils.screen_text import on_screen

MAX_REASONS = 3
"""Reasons that are shown for an editor, the most frequent ones."""


def edit_outcomes(rows: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Returns how often each editor had each outcome: "ok", or the reason why there is no edit.

    Args:
        rows: Rows of the manifest.

    Example:
        >>> from renoise.outputs.edit_outcomes import edit_outcomes
        >>> edit_outcomes([{"edits": {"PromptSwap": "ok"}}, {"edits": {"PromptSwap": "the image has no edit_text"}}])
        {'PromptSwap': Counter({'ok': 1, 'the image has no edit_text': 1})}
    """
    outcomes: dict[str, Counter[str]] = {}
    for row in rows:
        for editor, outcome in (row.get("edits") or {}).items():
            outcomes.setdefault(editor, Counter())[outcome] += 1
    return outcomes


def reasons(outcomes: Counter[str]) -> str:
    """Returns the reasons why one editor made no edit, each with its number of images. Empty if it made all.

    Args:
        outcomes: Of the editor, see `edit_outcomes`.

    Example:
        >>> from collections import Counter
        >>> from renoise.outputs.edit_outcomes import reasons
        >>> reasons(Counter({"ok": 1, "the image has no edit_text": 2}))
        'the image has no edit_text (2)'
    """
    found = [(reason, count) for reason, count in outcomes.most_common() if reason != "ok"]
    texts = [f"{reason} ({count})" for reason, count in found[:MAX_REASONS]]
    if len(found) > MAX_REASONS:
        texts.append(f"other reasons ({sum(count for _, count in found[MAX_REASONS:])})")
    return on_screen("; ".join(texts))


def as_table(outcomes: Mapping[str, Counter[str]]) -> Table:
    """Returns the outcomes as a table for the terminal.

    Args:
        outcomes: See `edit_outcomes`.
    """
    table = Table("editor", Column("made", justify="right"), Column("not made", justify="right"), title="Edits")
    is_complete = all(set(counts) == {"ok"} for counts in outcomes.values())
    if not is_complete:
        table.add_column("because")
    for editor, counts in outcomes.items():
        cells: list[Text | str] = [Text(on_screen(editor)), str(counts["ok"]), str(counts.total() - counts["ok"])]
        if not is_complete:
            cells.append(Text(reasons(counts)))
        table.add_row(*cells)
    return table
