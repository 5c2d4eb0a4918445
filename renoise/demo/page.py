"""The page: what happens when a visitor does something."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import gradio as gr

from renoise.demo import view
from renoise.demo.archive import write_archive
from renoise.demo.drawn_mask import enlarged
from renoise.demo.steps import EditStep, InversionStep, PictureStep, ResultStep, guidance_of, strength_of
from renoise.demo.turns import Progress, StoppedError
from renoise.demo.visitor import Visitor
from renoise.demo.visitors import Visitors
from renoise.demo.work import Edit, EditForm
from renoise.errors import InputError

Updates = dict[Any, Any]
"""New values of components."""
STOPPED = "Stopped."
BROKEN = "Something went wrong on the server. Its log says what."


class Page:
    """The page, and what its buttons do.

    Args:
        visitors: Who sees it.
        archives: Folder of the files that visitors download.
    """

    def __init__(self, visitors: Visitors, archives: Path) -> None:
        self.visitors, self.archives = visitors, archives
        studio = visitors.studio
        with gr.Blocks(title="ReNoise", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            gr.HTML(view.header(studio), elem_id="header")
            self.picture = PictureStep(studio)
            self.inversion = InversionStep(studio)
            self.edits = EditStep(studio)
            self.result = ResultStep()
            self._connect()

    def _connect(self) -> None:
        picture, inversion, edits = self.picture, self.inversion, self.edits
        now: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        every = self._outputs()
        picture.upload.upload(self.open_upload, picture.upload, every, **now)
        picture.samples.select(self.open_sample, None, every, **now)
        of_editor = [edits.editor, edits.guidance_scale, edits.strength]
        edits.editor.change(self.choose_editor, edits.editor, of_editor, **now)
        edits.history.select(self.choose_edit, None, every, **now)
        form = [edits.edit_text, edits.editor, edits.guidance_scale, edits.strength, edits.mask]
        on_model = [
            self._start(inversion.describe, inversion.told, self.describe, []),
            self._start(inversion.start, inversion.told, self.invert, [inversion.text]),
            self._start(edits.start, edits.told, self.edit, form),
        ]
        for stop in (inversion.stop, edits.stop):
            stop.click(self.stop, None, every, cancels=on_model, **now)
        self.blocks.unload(self.leave)

    def _start(self, button: Any, told: Any, work: Callable[..., Any], inputs: list[Any]) -> Any:
        """Has a button start a task on the model, which is in the queue until the model is free."""
        outputs = self._outputs()
        waiting = button.click(self.wait, None, outputs, queue=False, show_progress="hidden", api_visibility="private")
        return waiting.then(
            work,
            inputs,
            outputs,
            show_progress="minimal",
            show_progress_on=told,
            concurrency_id="model",
            concurrency_limit=1,
            api_visibility="private",
        )

    def _outputs(self) -> list[Any]:
        parts = (self.picture, self.inversion, self.edits, self.result)
        return [component for part in parts for component in vars(part).values()]

    # What a visitor does

    def open_upload(self, file: str | None, request: gr.Request) -> Updates:
        """Takes the picture that was uploaded."""
        visitor = self._visitor(request)
        if file is None:
            return {}
        return self._open(visitor, Path(file), {self.inversion.text: "", self.edits.edit_text: ""})

    def open_sample(self, event: gr.SelectData, request: gr.Request) -> Updates:
        """Takes a sample, with its texts."""
        sample = self.visitors.studio.samples[event.index]
        texts = {self.inversion.text: sample.text, self.edits.edit_text: sample.edit_text}
        return self._open(self._visitor(request), sample.path, {**texts, self.picture.upload: None})

    def choose_editor(self, name: str) -> Updates:
        """Shows the defaults of an editing method."""
        choice = self.visitors.studio.editor(name)
        return {
            self.edits.editor: gr.update(info=view.explain(choice)),
            self.edits.guidance_scale: gr.update(**guidance_of(choice)),
            self.edits.strength: gr.update(**strength_of(choice)),
        }

    def choose_edit(self, event: gr.SelectData, request: gr.Request) -> Updates:
        """Shows an earlier edit."""
        visitor = self._visitor(request)
        return self._show(visitor, event.index)

    def wait(self, request: gr.Request) -> Updates:
        """Notes that a task is in the queue."""
        visitor = self._visitor(request)
        visitor.wait()
        return self._buttons(visitor)

    def describe(self, request: gr.Request) -> Generator[Updates, None, None]:
        """Has the picture captioned."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            return {self.inversion.text: (yield from visitor.describe())}

        yield from self._run(visitor, work, self.inversion.told)

    def invert(self, text: str, request: gr.Request) -> Generator[Updates, None, None]:
        """Inverts the picture."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            yield from visitor.invert(text)
            return {}

        yield from self._run(visitor, work, self.inversion.told)

    def edit(
        self, edit_text: str, editor: str, scale: float, strength: float, drawn: Any, request: gr.Request
    ) -> Generator[Updates, None, None]:
        """Edits the picture."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            choice = visitor.studio.editor(editor)
            numbers = (
                None if choice.guidance_scale is None else scale,
                None if choice.strength is None else strength,
            )
            yield from visitor.edit(EditForm(edit_text, editor, *numbers, (drawn or {}).get("layers") or ()))
            return {}

        yield from self._run(visitor, work, self.edits.told)

    def stop(self, request: gr.Request) -> Updates:
        """Ends what a visitor runs."""
        visitor = self._visitor(request)
        visitor.stop()
        line = view.say(STOPPED)
        return self._show(visitor) | {self.inversion.told: line, self.edits.told: line}

    def leave(self, request: gr.Request) -> None:
        """Forgets a visitor who left."""
        self.visitors.leave(request.session_hash or "")

    # What the visitor sees

    def _visitor(self, request: gr.Request) -> Visitor:
        return self.visitors.of(request.session_hash or "")

    def _open(self, visitor: Visitor, file: Path, texts: Updates) -> Updates:
        try:
            visitor.open(file)
        except InputError as error:
            return {self.picture.notes: view.say(str(error), "error"), self.picture.upload: None}
        assert visitor.work is not None
        square = enlarged(visitor.work.square)
        pictures = (self.picture.picture, self.inversion.original, self.edits.original)
        shown = self._show(visitor) | texts | dict.fromkeys(pictures, visitor.work.square)
        return shown | {self.edits.mask: {"background": square, "layers": [], "composite": None}}

    def _run(
        self, visitor: Visitor, work: Callable[[], Generator[Progress, None, Updates]], told: Any
    ) -> Generator[Updates, None, None]:
        """Runs a task, shows how far it is, and then what came of it."""
        updates: Updates = {}
        started = time.monotonic()
        problem = None
        try:
            visitor.begin()
            task = work()
            while True:
                progress = next(task)
                yield {told: view.show_progress(progress, started)}
        except StopIteration as end:
            updates = end.value
        except StoppedError:
            problem = view.say(STOPPED)
        except InputError as error:
            problem = view.say(str(error), "error")
        except Exception:  # whatever a model or an editor raises: the visitor learns that, and the log what
            traceback.print_exc(file=sys.stderr)
            problem = view.say(BROKEN, "error")
        yield self._show(visitor) | updates | ({} if problem is None else {told: problem})

    def _show(self, visitor: Visitor, position: int = -1) -> Updates:
        """Returns everything that depends on what a visitor did, with the edit at a position of the history."""
        work, studio = visitor.work, visitor.studio
        edits: list[Edit] = [] if work is None else work.edits
        edit = edits[position] if -len(edits) <= position < len(edits) else None
        command, python = view.recipe(studio, work, edit)
        is_inverted = work is not None and work.inverted is not None
        archive = self.archives / visitor.folder.name / "renoise.zip"
        if is_inverted:
            write_archive(visitor.folder, archive)
        return self._buttons(visitor) | {
            self.picture.notes: view.notes(work),
            self.inversion.told: view.about_inversion(work),
            self.inversion.results: gr.update(visible=is_inverted),
            self.inversion.reconstruction: gr.update(
                value=work.inverted.reconstruction if work is not None and work.inverted is not None else None,
                label=view.reconstruction_label(work),
            ),
            self.inversion.curve: view.curve(work),
            self.edits.told: view.about_edits(work, edit),
            self.edits.results: gr.update(visible=edit is not None),
            self.edits.edited: None if edit is None else edit.picture,
            self.edits.history: [(each.picture, view.caption_of(each)) for each in edits],
            self.result.results: gr.update(visible=is_inverted),
            self.result.download: str(archive) if is_inverted else None,
            self.result.command: command,
            self.result.python: python,
        }

    def _buttons(self, visitor: Visitor) -> Updates:
        """Returns which buttons can be pressed."""
        busy, work = visitor.is_busy, visitor.work
        can_invert = work is not None and not busy
        return {
            self.inversion.describe: gr.update(interactive=can_invert),
            self.inversion.start: gr.update(interactive=can_invert),
            self.inversion.stop: gr.update(interactive=busy),
            self.edits.start: gr.update(interactive=can_invert and work is not None and work.inverted is not None),
            self.edits.stop: gr.update(interactive=busy),
        }
