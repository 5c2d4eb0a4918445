"""Text of files and names as it may appear on a screen: short, in one line, without commands to the terminal."""

from __future__ import annotations

import sys
import warnings
from collections import Counter

from renoise.errors import InputWarning

MAX_LENGTH = 500
"""Characters of a message on the screen."""
MAX_ALIKE = 20
"""Warnings from one place in the code that are printed. Further ones are counted."""


def escaped(text: str) -> str:
    r"""Returns a text as one line without control characters.

    Characters that turn the direction of writing or have no width could hide what a name is. They are escaped, too.

    Args:
        text: Any text, such as a message with a file name in it.

    Example:
        >>> from renoise.utils.screen_text import escaped
        >>> print(escaped("a\x1b[31m\nb.png"))
        a\x1b[31m\nb.png
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def on_screen(text: str) -> str:
    """Returns a text as one line without control characters. The middle of a long text is left out.

    Args:
        text: Any text, such as a message with a file name in it.
    """
    half = (MAX_LENGTH - 3) // 2
    text = escaped(text if len(text) <= MAX_LENGTH else f"{text[:half]} … {text[-half:]}")
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


class WarningFormatter:
    """Formats an `InputWarning` as one line; none at all after many from the same place in the code."""

    def __init__(self) -> None:
        self._default = warnings.formatwarning
        self._counts = Counter[tuple[str, int]]()

    def __call__(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        """See `warnings.formatwarning`."""
        if not issubclass(category, InputWarning):
            return self._default(message, category, filename, lineno, line)
        self._counts[filename, lineno] += 1
        return on_screen(f"warning: {message}") + "\n" if self._counts[filename, lineno] <= MAX_ALIKE else ""

    def print_counts(self) -> None:
        """Prints how many warnings were not shown, once for each place in the code."""
        for count in self._counts.values():
            if count > MAX_ALIKE:
                print(f"warning: {count - MAX_ALIKE} more warnings like one above, {count} in all", file=sys.stderr)
        self._counts.clear()


format_warning = WarningFormatter()
"""The formatter of this process."""
