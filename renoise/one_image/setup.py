"""Loads the model and makes the editor that the options name."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch

from renoise.api.loading import load
from renoise.api.pipeline import InversionPipeline
from renoise.editing.base import Editor, EditRequest
from renoise.editing.discovery import load_editors
from renoise.editing.runner import check_needs
from renoise.errors import InputError, InputWarning, prefixed
from renoise.one_image.options import EditOptions, InvertOptions, ModelOptions
from renoise.one_image.picture import Picture
from renoise.presets import instantiate, read_preset
from renoise.utils.alternatives import did_you_mean
from renoise.utils.yaml_text import parse_yaml

MINIATURE = 256
"""Models of fewer pixels are miniatures: no published model of photographs has fewer."""


def load_pipeline(options: ModelOptions) -> InversionPipeline:
    """Loads the model of the options, on the GPU if there is one.

    Raises:
        InputError: It cannot be loaded.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load(options.model, preset=options.preset, device=device)
    except InputError as error:
        advice = f". That is the default, the preset {options.preset}; --model takes another"
        raise InputError(f"{error}{advice if options.is_default else ''}") from error


def note_on_text(pipeline: InversionPipeline, text: str) -> str | None:
    """Returns what the user should know about a text that is too long for the text encoder. None where it is not."""
    cut = pipeline.model.split_prompt(text)[1]
    return f"a text is longer than the text encoder takes; cut off: {cut!r}" if cut else None


def note_on_picture(pipeline: InversionPipeline, picture: Picture) -> str | None:
    """Returns what the user should know about a picture that a miniature model cannot draw. None where it may."""
    own = pipeline.model.default_resolution
    if own >= MINIATURE or min(picture.size) < 2 * own:
        return None
    height, width = picture.size
    return (
        f"{picture.path} has {width}×{height} pixels, and this model draws {own}×{own}: a miniature cannot draw "
        "photographs. Those of this project know sixteen animals on patterned backgrounds (docs/tiny_models.md)"
    )


def warn(note: str | None) -> None:
    """Warns of what a note says, if there is one."""
    if note is not None:
        warnings.warn(note, InputWarning, stacklevel=2)


def choose_resolution(options: InvertOptions, pipeline: InversionPipeline, picture: Picture) -> int:
    """Returns the side in pixels of the square that the picture is brought to.

    Raises:
        InputError: The model cannot take it.
    """
    own, multiple = pipeline.model.default_resolution, pipeline.model.size_multiple
    side = own if options.resolution is None else options.resolution
    if side < multiple or side % multiple:
        raise InputError(f"resolution must be a positive multiple of {multiple}, got {side}; the model's own is {own}")
    warn(note_on_picture(pipeline, picture))
    return side


def make_editor(options: EditOptions) -> Editor:
    """Makes the editing method of the options, by default that of the preset.

    Raises:
        InputError: There is no such editor, or it has no such option, or a value is out of range.
    """
    (preset, *_) = read_preset(options.preset)["model"]["editors"]
    setting = dict(preset) if options.editor is None else _setting(options.editor)
    guidance_scale = preset["init_args"].get("guidance_scale")
    init_args = dict(setting.get("init_args") or {})
    kind = load_editors().get(setting["class_path"])
    if kind is not None and guidance_scale is not None and "guidance_scale" in inspect.signature(kind).parameters:
        init_args = {"guidance_scale": guidance_scale} | init_args
    given = {"guidance_scale": options.guidance_scale, "strength": options.strength}
    init_args |= {name: value for name, value in given.items() if value is not None}
    with prefixed("editor: "):
        return instantiate(Editor, setting | {"init_args": init_args})


def check_editor(editor: Editor, pipeline: InversionPipeline, request: EditRequest) -> None:
    """Checks that an editor can edit the picture, before it is inverted.

    Raises:
        InputError: It cannot.
    """
    with prefixed("editor: ", ValueError):
        check_needs(editor, pipeline.model, pipeline.schedule, pipeline.inversion, pipeline.num_inversion_steps)
    refusal = editor.refusal(request)
    if refusal is not None:
        raise InputError(f"editor: {type(editor).__name__} cannot edit {request.file_name}: {refusal}")


def _setting(editor: str) -> dict[str, Any]:
    """Returns the setting of an editor that is named, or written as in a config."""
    names = load_editors()
    if not editor.lstrip().startswith("{"):
        if editor not in names and "." not in editor:
            near = did_you_mean(editor, names)
            raise InputError(f"editor: there is no {editor!r}; there are {', '.join(sorted(names))}{near}")
        return {"class_path": editor}
    setting = parse_yaml("editor", editor)
    if "class_path" not in setting:
        raise InputError(f"editor: {editor} has no class_path; write it as in a config, or give a name alone")
    return dict(setting)
