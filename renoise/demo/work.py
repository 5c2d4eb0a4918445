"""The picture of a visitor, and what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from renoise.one_image.kept import Inverted
from renoise.one_image.options import EditOptions, InvertOptions
from renoise.one_image.picture import Picture


@dataclass(frozen=True)
class EditForm:
    """What a visitor asks for.

    Args:
        edit_text: What the picture is to show.
        editor: Name of the editing method.
        guidance_scale: Of the edit, where the editor has one.
        strength: Share of the steps under the text, where the editor has one.
        layers: What was drawn on the picture: only there it may change. Nothing means everywhere.
    """

    edit_text: str
    editor: str
    guidance_scale: float
    strength: float
    layers: Sequence[Image.Image] = ()


@dataclass(frozen=True)
class Edit:
    """An edit that was made.

    Args:
        picture: The edited picture.
        options: How it was made.
        editor: Name of its editing method.
        init_args: Options of the method.
        name: Name of its file.
        note: What the visitor should know about its text. Empty where there is nothing.
    """

    picture: Image.Image
    options: EditOptions
    editor: str
    init_args: dict[str, Any]
    name: str
    note: str


@dataclass
class Work:
    """The picture of a visitor and what was made of it. Another picture begins anew.

    Args:
        picture: The picture.
        square: Its middle square at the model's resolution.
        notes: What the visitor should know about the picture.
        text_note: What the visitor should know about its text. Empty where there is nothing.
        options: How it was inverted. None before.
        inverted: Its inversion. None before.
        residuals: Of every step of the inversion, cleanest first. Empty where the method solves no equation.
        psnr: Of the reconstruction, in dB.
        edits: The edits, oldest first.
    """

    picture: Picture
    square: Image.Image
    notes: list[str] = field(default_factory=list)
    text_note: str = ""
    options: InvertOptions | None = None
    inverted: Inverted | None = None
    residuals: list[float] = field(default_factory=list)
    psnr: float = 0.0
    edits: list[Edit] = field(default_factory=list)
