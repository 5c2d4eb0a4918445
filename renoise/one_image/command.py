"""Runs `renoise edit` and `renoise invert`."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from renoise.api.pipeline import InversionPipeline
from renoise.editing.base import EditRequest
from renoise.errors import InputWarning
from renoise.metrics.functional import mean_squared_error
from renoise.one_image.kept import INVERSIONS, Inverted, invert_or_keep
from renoise.one_image.options import EditOptions, InvertOptions, check_texts
from renoise.one_image.picture import MAX_NAME, Picture, caption, open_picture
from renoise.one_image.setup import check_editor, choose_resolution, load_pipeline, make_editor
from renoise.outputs.images import to_pil, to_png
from renoise.outputs.side_by_side import Panel, side_by_side
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.library_messages import quiet_libraries, quiet_loading
from renoise.utils.progress import is_terminal, show_progress
from renoise.utils.screen_text import on_screen


def invert(options: InvertOptions) -> None:
    """Inverts a picture: writes the inversion and the reconstruction.

    Raises:
        InputError: A mistake of the user.
    """
    quiet_libraries()
    picture = open_picture(options.image)
    text = _prepare(options, picture)
    pipeline = _load(options, text)
    inverted = _invert(options, picture, text, pipeline)
    _say("kept in", inverted.file)


def edit(options: EditOptions) -> None:
    """Edits a picture: writes the edit, the reconstruction, and both beside the original.

    Raises:
        InputError: A mistake of the user.
    """
    quiet_libraries()
    picture = open_picture(options.image, options.mask)
    editor = make_editor(options)
    text = _prepare(options, picture)
    check_texts(text, options.edit_text)
    pipeline = _load(options, text, options.edit_text)
    check_editor(editor, pipeline, EditRequest(picture.path.name, text, options.edit_text))
    inverted = _invert(options, picture, text, pipeline)
    (drawn,) = inverted.images.edit(options.edit_text, editor=editor)
    edited = to_pil(picture.keep_outside_of_mask(to_tensor(drawn)))
    panels = [
        Panel(to_pil(picture.pixels(edited.width)), "original", picture.path.name),
        Panel(inverted.reconstruction, "reconstruction", text),
        Panel(edited, "edit", options.edit_text),
    ]
    name = f"{picture.name}-{_name(options)}"
    _write(options, f"{name}.png", edited, "edit")
    _write(options, f"{name}-comparison.png", side_by_side(panels), "side by side")


def _prepare(options: InvertOptions, picture: Picture) -> str:
    """Checks the output folder, and returns what the picture shows."""
    quiet_loading(show_downloads=is_terminal())
    inversions = options.output / INVERSIONS
    with writing_to(options.output, "output"), show_progress():
        inversions.mkdir(parents=True, exist_ok=True)
        if options.text is not None:
            return options.text
        text = caption(picture, options.preset, inversions)
    _say("caption", text)
    return text


def _load(options: InvertOptions, *texts: str) -> InversionPipeline:
    """Loads the model, and warns of texts that are too long for it."""
    with show_progress():
        pipeline = load_pipeline(options)
    for text in texts:
        if cut := pipeline.model.split_prompt(text)[1]:
            warnings.warn(f"a text is longer than the text encoder takes; cut off: {cut!r}", InputWarning, stacklevel=2)
    return pipeline


def _invert(options: InvertOptions, picture: Picture, text: str, pipeline: InversionPipeline) -> Inverted:
    """Inverts the picture, writes the reconstruction, and says how both went."""
    side = choose_resolution(options, pipeline, picture)
    steps, device = len(pipeline.schedule), pipeline.model.device.type
    checkpoint = pipeline.model.pipeline.config["_name_or_path"]
    _say("model", f"{checkpoint}, preset {options.preset}, {steps} steps, {side}×{side} pixels, {device}")
    with writing_to(options.output, "output"):
        inverted = invert_or_keep(picture, text, side, pipeline, options.output)
    error = mean_squared_error(to_tensor(inverted.reconstruction)[None], picture.pixels(side)[None])
    _say("inversion", inverted.origin)
    quality = f"reconstruction, {-10 * float(torch.log10(error)):.2f} dB"
    _write(options, f"{picture.name}-reconstruction.png", inverted.reconstruction, quality)
    return inverted


def _name(options: EditOptions) -> str:
    """Returns the name of an edit: its text, and the options that are not the preset's."""
    given = {"guidance": options.guidance_scale, "strength": options.strength}
    words = [options.edit_text[:MAX_NAME], (options.editor or "")[:MAX_NAME]]
    words += [f"{name} {value:g}" for name, value in given.items() if value is not None]
    words += ["mask"] if options.mask else []
    return re.sub(r"[^\w.]+", "-", " ".join(words)).strip("-.")


def _write(options: InvertOptions, name: str, picture: Image.Image, what: str) -> None:
    with writing_to(options.output, "output"):
        write_atomically(options.output / name, to_png(picture))
    _say(what, options.output / name)


def _say(what: str, found: str | Path) -> None:
    print(on_screen(f"{what}: {found}"))
