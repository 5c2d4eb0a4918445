"""The components of the page, and what they show of a visitor's work."""

from __future__ import annotations

from typing import Any

import gradio as gr

from renoise.demo import view
from renoise.demo.archive import write_archive
from renoise.demo.drawn_mask import enlarged
from renoise.demo.steps import EditStep, InversionStep, PictureStep, ResultStep
from renoise.demo.studio import Studio
from renoise.demo.visitor import Kind, Visitor
from renoise.demo.work import Edit

Updates = dict[Any, Any]
"""New values of components."""


class Display:
    """What the page shows.

    Args:
        studio: What all visitors share.
    """

    def __init__(self, studio: Studio) -> None:
        gr.HTML(view.header(studio), elem_id="header")
        self.picture = PictureStep(studio)
        self.inversion = InversionStep(studio)
        self.edits = EditStep(studio)
        self.result = ResultStep()

    def components(self) -> list[Any]:
        """Returns everything that can change."""
        parts = (self.picture, self.inversion, self.edits, self.result)
        return [component for part in parts for component in vars(part).values()]

    def told(self, kind: Kind) -> Any:
        """Returns the line that says how a task goes."""
        return (self.edits if kind is Kind.EDIT else self.inversion).told

    def opened(self, visitor: Visitor) -> Updates:
        """Returns what changes with a new picture."""
        assert visitor.work is not None
        square = visitor.work.square
        pictures = (self.picture.picture, self.inversion.original, self.edits.original)
        canvas = {"background": enlarged(square), "layers": [], "composite": None}
        return self.shown(visitor) | dict.fromkeys(pictures, square) | {self.edits.mask: canvas}

    def shown(self, visitor: Visitor, position: int = -1) -> Updates:
        """Returns everything that depends on what a visitor did with the picture.

        Args:
            visitor: The visitor.
            position: Of the edit to show, in the history.
        """
        work = visitor.work
        edits: list[Edit] = [] if work is None else work.edits
        edit = edits[position] if -len(edits) <= position < len(edits) else None
        inverted = None if work is None else work.inverted
        command, python = view.recipe(visitor.studio, work, edit)
        label = view.reconstruction_label(work)
        return self.buttons(visitor) | {
            self.picture.notes: view.notes(work),
            self.inversion.told: view.about_inversion(work),
            self.inversion.results: gr.update(visible=inverted is not None),
            self.inversion.reconstruction: gr.update(value=inverted and inverted.reconstruction, label=label),
            self.inversion.curve: view.curve(work),
            self.edits.told: view.about_edits(work, edit),
            self.edits.results: gr.update(visible=edit is not None),
            self.edits.edited: edit and edit.picture,
            self.edits.history: [(each.picture, view.caption_of(each)) for each in edits],
            self.result.results: gr.update(visible=inverted is not None),
            self.result.download: inverted and self._archive(visitor),
            self.result.command: command,
            self.result.python: python,
        }

    def buttons(self, visitor: Visitor) -> Updates:
        """Returns which buttons can be pressed."""
        work, is_busy, edits = visitor.work, visitor.is_busy, visitor.last is Kind.EDIT
        can_invert = work is not None and not is_busy
        can_edit = work is not None and work.inverted is not None and not is_busy
        return {
            self.inversion.describe: gr.update(interactive=can_invert),
            self.inversion.start: gr.update(interactive=can_invert),
            self.inversion.stop: gr.update(interactive=is_busy and not edits),
            self.edits.start: gr.update(interactive=can_edit),
            self.edits.stop: gr.update(interactive=is_busy and edits),
        }

    @staticmethod
    def _archive(visitor: Visitor) -> str:
        write_archive(visitor.folder, visitor.archive)
        return str(visitor.archive)
