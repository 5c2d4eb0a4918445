"""Runs `renoise edit` and `renoise invert`."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from renoise.api.pipeline import InversionPipeline
from renoise.editing.base import EditRequest
from renoise.one_image.drawing import draw_comparison, draw_edit, edit_name, reconstruction_psnr
from renoise.one_image.kept import INVERSIONS, Inverted, invert_or_keep
from renoise.one_image.options import EditOptions, InvertOptions, check_texts
from renoise.one_image.picture import Picture, caption, open_picture
from renoise.one_image.setup import (
    check_editor,
    choose_resolution,
    load_pipeline,
    make_editor,
    note_on_text,
    warn,
)
from renoise.outputs.images import to_png
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
    edited = draw_edit(picture, inverted, editor, options.edit_text)
    name = f"{picture.name}-{edit_name(options)}"
    _write(options, f"{name}.png", edited, "edit")
    sheet = draw_comparison(picture, inverted, edited, options.edit_text)
    _write(options, f"{name}-comparison.png", sheet, "side by side")


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
        warn(note_on_text(pipeline, text))
    return pipeline


def _invert(options: InvertOptions, picture: Picture, text: str, pipeline: InversionPipeline) -> Inverted:
    """Inverts the picture, writes the reconstruction, and says how both went."""
    side = choose_resolution(options, pipeline, picture)
    steps, device = len(pipeline.schedule), pipeline.model.device.type
    checkpoint = pipeline.model.pipeline.config["_name_or_path"]
    _say("model", f"{checkpoint}, preset {options.preset}, {steps} steps, {side}×{side} pixels, {device}")
    with writing_to(options.output, "output"):
        inverted = invert_or_keep(picture, text, side, pipeline, options.output)
    _say("inversion", inverted.origin)
    quality = f"reconstruction, {reconstruction_psnr(picture, inverted.reconstruction):.2f} dB"
    _write(options, f"{picture.name}-reconstruction.png", inverted.reconstruction, quality)
    return inverted


def _write(options: InvertOptions, name: str, picture: Image.Image, what: str) -> None:
    with writing_to(options.output, "output"):
        write_atomically(options.output / name, to_png(picture))
    _say(what, options.output / name)


def _say(what: str, found: str | Path) -> None:
    print(on_screen(f"{what}: {found}"))
