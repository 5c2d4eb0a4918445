"""Options of `renoise edit` and `renoise invert`. This file imports no slow library."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from renoise.errors import InputError
from renoise.presets import preset_path
from renoise.utils.alternatives import did_you_mean

DEFAULT_PRESET = "sdxl_turbo_fast"
PRESET_OF_MODELS = "sd_fast"
"""The settings for a checkpoint that is given without a preset: those of models that sample in many steps."""
DEFAULT_OUTPUT = "out/edits"

INVERT = """Find the noise that a model turns back into a picture, and write it with the reconstruction. `renoise edit`
with the same picture, text and model edits it without another inversion."""
EDIT = """Edit one picture: TEXT says what it shows, EDIT_TEXT what it is to show. Writes the edit, the reconstruction,
and both beside the original. The inversion is kept: another edit of the picture takes only the way back."""
CAPTIONED = "left out, the preset's captioner describes it"
EPILOG = """The default is the preset {}, a download of about 14 GB. It may take long on a CPU."""


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and with which settings.

    Args:
        preset: Name of the preset.
        model: A checkpoint in place of the preset's. None takes the preset's.
        is_default: Whether neither of them was given.
    """

    preset: str
    model: str | None
    is_default: bool


@dataclass(frozen=True)
class InvertOptions(ModelOptions):
    """What both commands take.

    Args:
        image: The picture.
        text: What it shows. None has it captioned.
        resolution: Side in pixels of the square that the picture is brought to. None takes the model's.
        output: The output folder.
    """

    image: Path
    text: str | None
    resolution: int | None
    output: Path


@dataclass(frozen=True)
class EditOptions(InvertOptions):
    """What `renoise edit` takes.

    Args:
        edit_text: What the picture is to show.
        editor: Name of the editing method, or a YAML mapping as in a config. None takes the preset's.
        guidance_scale: Of the edit. None takes the preset's.
        strength: Share of the steps under `edit_text`. None takes the editor's.
        mask: A picture of the image's size, white where the edit may change it.
    """

    edit_text: str
    editor: str | None
    guidance_scale: float | None
    strength: float | None
    mask: Path | None


class Parser(argparse.ArgumentParser):
    """A parser whose messages are one line, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        unknown = re.match(r"unrecognized arguments: (-\S+)", message)
        near = did_you_mean(unknown[1], self._option_string_actions) if unknown else ""
        raise InputError(f"{message.removeprefix('argument ')}{near}")


def parse_invert(arguments: Sequence[str]) -> InvertOptions:
    """Reads the command line of `renoise invert`, after the command.

    Raises:
        InputError: It is wrong.
    """
    parser = _parser("invert", "IMAGE [TEXT]", f"what it shows; {CAPTIONED}", INVERT)
    values = parser.parse_intermixed_args(arguments)
    if values.image is None or len(values.texts) > 1:
        raise InputError('give one picture and its text: renoise invert cat.jpg "a cat on a sofa"')
    return InvertOptions(**_shared(values, values.texts))


def parse_edit(arguments: Sequence[str]) -> EditOptions:
    """Reads the command line of `renoise edit`, after the command.

    Raises:
        InputError: It is wrong.
    """
    parser = _parser("edit", "IMAGE [TEXT] EDIT_TEXT", f"what it shows ({CAPTIONED}), and what it is to show", EDIT)
    add = parser.add_argument
    add("--editor", metavar="NAME", help="editing method, such as PromptToPrompt; default: the preset's")
    add("--guidance_scale", type=float, metavar="S", help="1 or more; more changes more; default: the preset's")
    add("--strength", type=float, metavar="S", help="share of the steps, in (0, 1]; less keeps more of the picture")
    add("--mask", metavar="FILE", help="a picture of the same size, white where the edit may change IMAGE")
    values = parser.parse_intermixed_args(arguments)
    if values.image is None or len(values.texts) not in (1, 2):
        example = 'renoise edit cat.jpg "a cat on a sofa" "a dog on a sofa"'
        raise InputError(f"give a picture, its text and the text of the edit: {example}")
    *texts, edit_text = values.texts
    shared = _shared(values, texts)
    check_texts(shared["text"], edit_text)
    return EditOptions(
        **shared,
        edit_text=edit_text.strip(),
        editor=values.editor,
        guidance_scale=values.guidance_scale,
        strength=values.strength,
        mask=None if values.mask is None else Path(values.mask).expanduser(),
    )


def check_texts(text: str | None, edit_text: str) -> None:
    """Raises InputError where the text of the edit is empty, or the same as that of the picture."""
    if not edit_text.strip():
        raise InputError("the text of the edit is empty; say what the picture is to show")
    if text is not None and text.strip() == edit_text.strip():
        raise InputError(
            f"the picture and the edit have the same text, {edit_text.strip()!r}; there is nothing to edit"
        )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `ModelOptions` are read from."""
    parser.add_argument("--preset", metavar="NAME", help="settings and model, see renoise presets")
    models = f"checkpoint: a folder, file or hub id; settings of {PRESET_OF_MODELS} unless --preset says otherwise"
    parser.add_argument("--model", metavar="CHECKPOINT", help=models)


def read_model_options(values: argparse.Namespace) -> ModelOptions:
    """Returns the options that `add_model_options` added.

    Raises:
        InputError: There is no such preset.
    """
    preset = values.preset or (DEFAULT_PRESET if values.model is None else PRESET_OF_MODELS)
    preset_path(preset)
    return ModelOptions(preset, values.model, is_default=values.preset is None and values.model is None)


def _parser(command: str, words: str, texts: str, description: str) -> Parser:
    usage, epilog = f"renoise {command} {words} [options]", EPILOG.format(DEFAULT_PRESET)
    parser = Parser(usage=usage, description=description, epilog=epilog, allow_abbrev=False)
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="the picture")
    add("texts", nargs="*", metavar="TEXT", help=texts)
    add_model_options(parser)
    add("--resolution", type=int, metavar="PX", help="side of the square IMAGE is cropped to; default: the model's")
    add("-o", "--output", default=DEFAULT_OUTPUT, metavar="FOLDER", help=f"output folder; default: {DEFAULT_OUTPUT}")
    return parser


def _shared(values: argparse.Namespace, texts: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of `InvertOptions`."""
    if texts and not texts[0].strip():
        raise InputError("the text of the picture is empty; say what it shows, or leave it out to have it captioned")
    return {
        **vars(read_model_options(values)),
        "image": Path(values.image).expanduser(),
        "text": texts[0].strip() if texts else None,
        "resolution": values.resolution,
        "output": Path(values.output).expanduser(),
    }
