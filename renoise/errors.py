"""What the user is told, and how."""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the user gave: shown as one line, without a traceback."""


class InputWarning(UserWarning):
    """Something in the input that the user should know of, and that stops nothing."""
