"""The library that the page needs, beside those of a run."""

from __future__ import annotations

import os

from renoise.errors import InputError


def require_extra() -> None:
    """Imports Gradio, which then reports nothing to its makers.

    Raises:
        InputError: It is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(f'the page needs gradio ({error}): pip install "renoise[demo]"') from error
