"""The parts of the page, in the order in which a visitor meets them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from renoise.demo import view
from renoise.demo.studio import EditorChoice, Studio

HEIGHT = 300
"""Of the pictures on the page, in pixels."""
COLUMN = 250
"""Least width of what stands beside each other, in pixels."""
MAX_TEXT = 500
"""Letters of a text."""


class PictureStep:
    """The picture: uploaded, or a sample."""

    def __init__(self, studio: Studio) -> None:
        _heading(1, "Choose a picture")
        with gr.Row():
            with gr.Column():
                self.upload = gr.File(label="Your picture", file_types=["image"], height=140, elem_id="upload")
                gr.HTML(view.say("Or begin with a sample:"))
                self.samples = gr.Gallery(
                    [(str(sample.path), None) for sample in studio.samples], elem_id="samples", **_STRIP
                )
            with gr.Column():
                self.picture = _image("the middle square, which the model sees", "picture")
        self.notes = gr.HTML(elem_id="notes")


class InversionStep:
    """The inversion: the text, how it goes, and what came of it."""

    def __init__(self, studio: Studio) -> None:
        _heading(2, "Invert it")
        self.text = gr.Textbox(
            label="What the picture shows",
            placeholder="a cat on a sofa",
            info=None if studio.has_captioner else view.NO_CAPTIONER,
            max_length=MAX_TEXT,
            elem_id="text",
        )
        with gr.Row():
            visible = studio.has_captioner
            self.describe = gr.Button("Describe it for me", interactive=False, visible=visible, elem_id="describe")
            self.start = gr.Button("Invert", variant="primary", interactive=False, scale=3, elem_id="invert")
            self.stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90, elem_id="stop-inverting")
        self.told = gr.HTML(view.about_inversion(None), elem_id="inversion-told")
        with gr.Row(visible=False) as self.results:
            self.original = _image("original", "original")
            self.reconstruction = _image("reconstruction", "reconstruction")
            with gr.Column(min_width=COLUMN):
                self.curve = gr.HTML(elem_id="curve")


class EditStep:
    """The edits: what is asked for, the one that is chosen, and all of them."""

    def __init__(self, studio: Studio) -> None:
        _heading(3, "Edit it")
        first = studio.editors[0]
        with gr.Row():
            self.edit_text = gr.Textbox(
                label="What it is to show",
                placeholder="a dog on a sofa",
                max_length=MAX_TEXT,
                min_width=COLUMN,
                elem_id="edit-text",
            )
            names = [choice.name for choice in studio.editors]
            self.editor = gr.Dropdown(
                names, value=first.name, label="Editor", info=view.explain(first), min_width=COLUMN, elem_id="editor"
            )
        with gr.Row():
            self.guidance_scale = gr.Slider(
                1,
                10,
                step=0.1,
                label="Guidance: more changes more",
                min_width=COLUMN,
                elem_id="guidance",
                **guidance_of(first),
            )
            self.strength = gr.Slider(
                0.01,
                1,
                step=0.01,
                label="Strength: less keeps more",
                min_width=COLUMN,
                elem_id="strength",
                **strength_of(first),
            )
        with gr.Accordion("Only a part: draw where the picture may change", open=False, elem_id="mask-part"):
            self.mask = gr.ImageEditor(
                type="pil",
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=["rgba(255, 255, 255, 0.7)"], color_mode="fixed", default_size=30),
                buttons=[],
                canvas_size=(studio.canvas, studio.canvas),
                show_label=False,
                elem_id="mask",
            )
        with gr.Row():
            self.start = gr.Button("Edit", variant="primary", interactive=False, scale=3, elem_id="edit")
            self.stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90, elem_id="stop-editing")
        self.told = gr.HTML(view.about_edits(None, None), elem_id="edit-told")
        with gr.Column(visible=False) as self.results:
            with gr.Row():
                self.original = _image("original", "before")
                self.edited = _image("edit", "edited")
            gr.HTML(view.say("Your edits. Choose one to see it again:"))
            self.history = gr.Gallery(elem_id="history", **_STRIP)


class ResultStep:
    """What a visitor takes along."""

    def __init__(self) -> None:
        with gr.Column(visible=False) as self.results:
            _heading(4, "Take it with you")
            self.download = gr.DownloadButton("Download everything (ZIP)", elem_id="download")
            gr.HTML(view.say(view.HOW_TO_RUN))
            self.command = gr.Code(
                label="Command line", language="shell", interactive=False, wrap_lines=True, elem_id="command", **_CODE
            )
            self.python = gr.Code(
                label="Python", language="python", interactive=False, wrap_lines=True, elem_id="python", **_CODE
            )


def guidance_of(choice: EditorChoice) -> dict[str, Any]:
    """Returns what the slider of the guidance scale shows for an editing method."""
    value = choice.guidance_scale
    return {"value": 1 if value is None else value, "interactive": value is not None}


def strength_of(choice: EditorChoice) -> dict[str, Any]:
    """Returns what the slider of the strength shows for an editing method."""
    value = choice.strength
    return {"value": 1 if value is None else value, "interactive": value is not None}


_STRIP: dict[str, Any] = {
    "allow_preview": False,
    "interactive": False,
    "buttons": [],
    "show_label": False,
    "elem_classes": "strip",
}
_CODE: dict[str, Any] = {"show_line_numbers": False, "buttons": ["copy"], "lines": 2}


def _heading(number: int, text: str) -> None:
    gr.HTML(f"<h2><b>{number}</b>{text}</h2>", elem_classes="heading")


def _image(label: str, elem_id: str) -> Any:
    return gr.Image(
        label=label,
        height=HEIGHT,
        min_width=COLUMN,
        format="png",
        interactive=False,
        buttons=[],
        elem_id=elem_id,
        elem_classes="shown",
    )
