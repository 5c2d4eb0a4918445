"""Blocks of a page that a program writes: the text between `<!-- begin NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

from pathlib import Path

from renoise import InputError


def check_block(page: Path, name: str) -> None:
    """Raises InputError if the page does not have the marks of a block."""
    begin, end = _marks(name)
    content = page.read_text(encoding="utf-8")
    if begin not in content or end not in content:
        raise InputError(f"{page} lacks the marks {begin.strip()} and {end}; add them, each on its own line")


def replace_block(page: Path, name: str, text: str) -> None:
    """Replaces the text of a block.

    Args:
        page: A Markdown file.
        name: The block's name.
        text: The new content, whole lines.

    Raises:
        InputError: The page does not have the marks of the block.
    """
    check_block(page, name)
    begin, end = _marks(name)
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
