"""The libraries that tables and figures need, beside those of a run."""

from __future__ import annotations

from renoise.errors import InputError


def require_extra() -> None:
    """Checks that pandas and matplotlib are installed.

    Raises:
        InputError: They are not.
    """
    try:
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
    except ImportError as error:
        text = f'tables and figures need pandas and matplotlib ({error}): pip install "renoise[evaluate]"'
        raise InputError(text) from error
