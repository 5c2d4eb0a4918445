from __future__ import annotations

from renoise.editing.base import Editor
from renoise.editing.discovery import load_editors


def test_the_shipped_editors_are_found_by_their_documented_classes() -> None:
    editors = load_editors()
    assert set(editors) >= {
        "EditFriendly",
        "FlowEdit",
        "NegativePrompt",
        "NullText",
        "Pix2PixZero",
        "PromptSwap",
        "PromptToPrompt",
    }
    for name, editor in editors.items():
        assert issubclass(editor, Editor)
        assert editor.__name__ == name
        assert editor.__doc__
