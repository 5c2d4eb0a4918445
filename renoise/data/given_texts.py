"""Texts of images that a data set has none for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from renoise.data.records import ImageRecord


def with_texts(
    records: Iterable[ImageRecord], use_text: bool, prompt: str | None, edit_text: str | None
) -> list[ImageRecord]:
    """Returns the records with the texts that options give.

    Args:
        records: The images.
        use_text: Whether images keep the data set's texts. Their edit prompts stay in any case.
        prompt: Of images without a text. None leaves them without.
        edit_text: The edit prompt of images that have none. None leaves them without.

    Example:
        >>> from pathlib import Path
        >>> from renoise.data import ImageRecord
        >>> from renoise.data.given_texts import with_texts
        >>> (record,) = with_texts([ImageRecord("cat.png", Path("cat.png"))], True, "a cat", "a dog")
        >>> record.prompt, record.edit_prompt
        ('a cat', 'a dog')
    """
    return [
        replace(
            record,
            prompt=record.prompt if use_text and record.prompt is not None else prompt,
            edit_prompt=edit_text if record.edit_prompt is None else record.edit_prompt,
        )
        for record in records
    ]
