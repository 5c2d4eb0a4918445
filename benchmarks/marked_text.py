"""Blocks of a page that programs write, between `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest is people's."""

from __future__ import annotations

from pathlib import Path

from renoise.errors import InputError


def check_block(page: Path, name: str) -> None:
    """Raises InputError where the page has no such marks."""
    begin, end = _marks(name)
    content = page.read_text(encoding="utf-8")
    if begin not in content or end not in content:
        raise InputError(f"{page} lacks the marks {begin.strip()} and {end}")


def replace_block(page: Path, name: str, text: str) -> None:
    """Puts `text` between the block's marks.

    Raises:
        InputError: the page has no such marks.
    """
    check_block(page, name)
    begin, end = _marks(name)
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
