"""Notices texts whose column has another name than `text` or `edit_text`, so that no prompts are lost in silence."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_warn

from renoise.data.records import printable
from renoise.errors import InputWarning

TEXT_COLUMNS = ("text", "edit_text")


class TextColumns:
    """The columns of a table that contain strings.

    Example:
        >>> from renoise.data.text_columns import TextColumns
        >>> columns = TextColumns()
        >>> columns.add({"caption": "a cat on a sofa", "label": 3})
        >>> columns.others
        ['caption']
    """

    def __init__(self) -> None:
        self.has_text = False
        self.others: list[str] = []
        """Columns of strings that are no prompts."""

    def add(self, row: Mapping[str, object]) -> None:
        """Notes the columns of a row."""
        self.has_text = self.has_text or any(name in row for name in TEXT_COLUMNS)
        if not self.has_text:
            self.others += [name for name, value in row.items() if isinstance(value, str) and name not in self.others]

    def warn_if_none(self, place: object, advice: str) -> None:
        """Warns if no row has a text, but other columns contain strings.

        Args:
            place: Where the rows are.
            advice: What to do.
        """
        if not self.has_text and self.others:
            names = ", ".join(self.others)[:200]
            message = f"{place}: no row has a text, and other columns of strings are not prompts: {names}; {advice}"
            rank_zero_warn(printable(message), category=InputWarning)
