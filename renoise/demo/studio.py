"""What all visitors share: the model, the editing methods that it can serve, and whose turn it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renoise.api.pipeline import InversionPipeline
from renoise.demo.drawn_mask import canvas_side
from renoise.demo.samples import Sample, samples
from renoise.demo.turns import Turns
from renoise.editing.base import EditRequest
from renoise.editing.discovery import load_editors
from renoise.errors import InputError
from renoise.one_image.options import EditOptions, InvertOptions, ModelOptions
from renoise.one_image.picture import captioner_config
from renoise.one_image.setup import MINIATURE, check_editor, load_pipeline, make_editor
from renoise.presets import read_preset
from renoise.utils.hub import is_at_hand

PATHS = ("checkpoint", "lora", "vae")
"""Settings of a model that may be paths of this machine."""


@dataclass(frozen=True)
class EditorChoice:
    """An editing method that a visitor can choose.

    Args:
        name: Its class name.
        option: What `--editor` takes for it. None for the preset's own.
        explanation: What it does, in a sentence.
        guidance_scale: The scale that it has by default. None if it has none.
        strength: Likewise of its strength.
    """

    name: str
    option: str | None
    explanation: str
    guidance_scale: float | None
    strength: float | None


class Studio:
    """The loaded model, and what can be done with it.

    Args:
        options: Which model, and with which settings.
        pipeline: The loaded model. From now on, its settings name no folder of this machine.
        turns: Who has the model.
    """

    def __init__(self, options: ModelOptions, pipeline: InversionPipeline, turns: Turns | None = None) -> None:
        self.pipeline = pipeline
        self.turns = turns or Turns()
        self.shown = ModelOptions(options.preset, shown_path(options.model), options.is_default)
        pipeline.settings |= {name: shown_path(pipeline.settings[name]) for name in PATHS}
        pipeline.settings["checkpoint"] = self.shown.model or pipeline.settings["checkpoint"]
        pipeline.settings["textual_inversion"] = [shown_path(name) for name in pipeline.settings["textual_inversion"]]
        self.side = pipeline.model.default_resolution
        self.samples: list[Sample] = samples(self.is_miniature)
        captioner = captioner_config(options.preset)
        self.has_captioner = captioner is not None and is_at_hand(captioner.checkpoint)
        self.editors = editor_choices(self.shown, pipeline)
        if not self.editors:
            raise InputError(f"preset: no editing method that takes a text works with {options.preset}")

    @property
    def canvas(self) -> int:
        """Side in pixels of the square that masks are drawn on."""
        return canvas_side(self.side)

    @property
    def is_miniature(self) -> bool:
        """Whether the model draws so few pixels that it cannot draw photographs."""
        return self.side < MINIATURE

    @property
    def keeps_trajectory(self) -> bool:
        """Whether inversions keep the latents of every step, which edits with a strength below 1 begin at."""
        return self.pipeline.num_inversion_steps is None

    @property
    def device(self) -> str:
        """Type of the device that the model runs on."""
        return str(self.pipeline.model.device.type)

    def describe(self) -> str:
        """Returns the model and its settings in a line."""
        name, steps = self.pipeline.settings["checkpoint"], len(self.pipeline.schedule)
        return f"{name}, preset {self.shown.preset}, {steps} steps, {self.side}×{self.side} pixels, {self.device}"

    def editor(self, name: str) -> EditorChoice:
        """Returns an editing method by its name.

        Raises:
            InputError: It is none of those that can be chosen.
        """
        for choice in self.editors:
            if choice.name == name:
                return choice
        names = ", ".join(choice.name for choice in self.editors)
        raise InputError(f"editor: {name!r} cannot be chosen here; there are {names}")


def open_studio(options: ModelOptions) -> Studio:
    """Loads the model.

    Raises:
        InputError: It cannot be loaded, or no editing method works with it.
    """
    return Studio(options, load_pipeline(options))


def editor_choices(options: ModelOptions, pipeline: InversionPipeline) -> list[EditorChoice]:
    """Returns the editing methods that take a text and whose needs the model meets, that of the preset first."""
    (preset, *_) = read_preset(options.preset)["model"]["editors"]
    own = preset["class_path"]
    names = [own, *sorted(set(load_editors()) - {own})]
    choices = [_choice(name, None if name == own else name, options, pipeline) for name in names]
    return [choice for choice in choices if choice is not None]


def _choice(name: str, option: str | None, options: ModelOptions, pipeline: InversionPipeline) -> EditorChoice | None:
    """Returns an editing method as a choice. None where it takes no text, or the model does not meet its needs."""
    request = EditRequest("picture", "a cat", "a dog")
    try:
        editor = make_editor(edit_options(options, Path(request.file_name), request.prompt, "a dog", option))
        check_editor(editor, pipeline, request)
    except InputError:
        return None
    if editor.refusal(EditRequest(request.file_name, request.prompt, None)) is None:
        return None  # it edits without a text, so it would ignore the visitor's
    explanation = (type(editor).__doc__ or "").partition("\n")[0]
    numbers = {key: editor.init_args.get(key) for key in ("guidance_scale", "strength")}
    return EditorChoice(name.rpartition(".")[2], option, explanation, **numbers)


def invert_options(options: ModelOptions, image: Path, text: str) -> InvertOptions:
    """Returns the options of `renoise invert` for an inversion on the page."""
    return InvertOptions(**vars(options), image=image, text=text, resolution=None, output=Path())


def edit_options(
    options: ModelOptions, image: Path, text: str, edit_text: str, editor: str | None, **given: Any
) -> EditOptions:
    """Returns the options of `renoise edit` for an edit on the page."""
    default: dict[str, Any] = {"guidance_scale": None, "strength": None, "mask": None}
    return EditOptions(
        **vars(invert_options(options, image, text)),
        edit_text=edit_text,
        editor=editor,
        **default | given,
    )


def shown_path(source: str | None) -> str | None:
    """Returns a checkpoint as visitors may see it: of a folder of this machine, the part below the current one.

    Args:
        source: A path, or a hub id, which stays as it is.

    Example:
        >>> from renoise.demo.studio import shown_path
        >>> shown_path("stabilityai/sdxl-turbo"), shown_path("data/models/tiny-sd")
        ('stabilityai/sdxl-turbo', 'data/models/tiny-sd')
    """
    if source is None or not os.path.exists(source):
        return source
    path, here = Path(source).absolute(), Path.cwd()
    for each in (path, path.resolve()):
        if each.is_relative_to(here):
            return each.relative_to(here).as_posix()
    return path.name or "model"
