"""The page: what happens when a visitor does something."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from renoise.demo import view
from renoise.demo.display import Display, Updates
from renoise.demo.steps import guidance_of, strength_of
from renoise.demo.turns import Progress, StoppedError
from renoise.demo.visitor import Kind, Visitor
from renoise.demo.visitors import Visitors
from renoise.demo.work import EditForm
from renoise.errors import InputError

NOW: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How events are handled that do not wait for the model."""
STOPPED = "Stopped."
BROKEN = "Something went wrong on the server. Its log says what."


class Page:
    """The page, and what its buttons do.

    Args:
        visitors: Who sees it.
    """

    def __init__(self, visitors: Visitors) -> None:
        self.visitors = visitors
        with gr.Blocks(title="ReNoise", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            self.display = Display(visitors.studio)
            self._connect()

    def _connect(self) -> None:
        display, every = self.display, self.display.components()
        picture, inversion, edits = display.picture, display.inversion, display.edits
        picture.upload.upload(self.open_upload, picture.upload, every, **NOW)
        picture.samples.select(self.open_sample, None, every, **NOW)
        of_editor = [edits.editor, edits.guidance_scale, edits.strength]
        edits.editor.change(self.choose_editor, edits.editor, of_editor, **NOW)
        edits.history.select(self.choose_edit, None, every, **NOW)
        form = [edits.edit_text, edits.editor, edits.guidance_scale, edits.strength, edits.mask]
        on_model = [
            self._start(Kind.DESCRIBE, inversion.describe, self.describe, []),
            self._start(Kind.INVERT, inversion.start, self.invert, [inversion.text]),
            self._start(Kind.EDIT, edits.start, self.edit, form),
        ]
        for stop in (inversion.stop, edits.stop):
            stop.click(self.stop, None, every, cancels=on_model, **NOW)
        self.blocks.unload(self.leave)

    def _start(self, kind: Kind, button: Any, work: Callable[..., Any], inputs: list[Any]) -> Any:
        """Has a button start a task on the model, which is in the queue until the model is free."""

        def wait(request: gr.Request) -> Updates:
            visitor = self._visitor(request)
            visitor.wait(kind)
            return self.display.buttons(visitor)

        every = self.display.components()
        waiting = button.click(wait, None, every, **NOW)
        running = waiting.then(
            work,
            inputs,
            every,
            show_progress="minimal",
            show_progress_on=self.display.told(kind),
            concurrency_id="model",
            concurrency_limit=1,
            api_visibility="private",
        )
        running.failure(self.stop, None, every, **NOW)  # where too many wait already
        return running

    def open_upload(self, file: str | None, request: gr.Request) -> Updates:
        """Takes the picture that was uploaded."""
        if file is None:
            return {}
        return self._open(request, Path(file), "", "")

    def open_sample(self, event: gr.SelectData, request: gr.Request) -> Updates:
        """Takes a sample, with its texts."""
        sample = self.visitors.studio.samples[event.index]
        shown = self._open(request, sample.path, sample.text, sample.edit_text)
        return shown | {self.display.picture.upload: None}

    def choose_editor(self, name: str) -> Updates:
        """Shows the defaults of an editing method."""
        choice, edits = self.visitors.studio.editor(name), self.display.edits
        return {
            edits.editor: gr.update(info=view.explain(choice)),
            edits.guidance_scale: gr.update(**guidance_of(choice)),
            edits.strength: gr.update(**strength_of(choice)),
        }

    def choose_edit(self, event: gr.SelectData, request: gr.Request) -> Updates:
        """Shows an earlier edit."""
        return self.display.shown(self._visitor(request), event.index)

    def describe(self, request: gr.Request) -> Generator[Updates, None, None]:
        """Has the picture captioned."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            return {self.display.inversion.text: (yield from visitor.describe())}

        yield from self._run(visitor, work)

    def invert(self, text: str, request: gr.Request) -> Generator[Updates, None, None]:
        """Inverts the picture."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            yield from visitor.invert(text)
            return {}

        yield from self._run(visitor, work)

    def edit(
        self, edit_text: str, editor: str, scale: float, strength: float, drawn: Any, request: gr.Request
    ) -> Generator[Updates, None, None]:
        """Edits the picture."""
        visitor = self._visitor(request)

        def work() -> Generator[Progress, None, Updates]:
            layers = (drawn or {}).get("layers") or ()
            yield from visitor.edit(EditForm(edit_text, editor, scale, strength, layers))
            return {}

        yield from self._run(visitor, work)

    def stop(self, request: gr.Request) -> Updates:
        """Ends what a visitor runs."""
        visitor = self._visitor(request)
        visitor.stop()
        return self.display.shown(visitor) | {self.display.told(visitor.last): view.say(STOPPED)}

    def leave(self, request: gr.Request) -> None:
        """Forgets a visitor who left, which frees the model."""
        self.visitors.leave(request.session_hash or "")

    def _visitor(self, request: gr.Request) -> Visitor:
        return self.visitors.of(request.session_hash or "")

    def _open(self, request: gr.Request, file: Path, text: str, edit_text: str) -> Updates:
        visitor, picture = self._visitor(request), self.display.picture
        try:
            visitor.open(file)
        except InputError as error:
            return {picture.notes: view.say(str(error), "error"), picture.upload: None}
        texts = {self.display.inversion.text: text, self.display.edits.edit_text: edit_text}
        return self.display.opened(visitor) | texts

    def _run(
        self, visitor: Visitor, work: Callable[[], Generator[Progress, None, Updates]]
    ) -> Generator[Updates, None, None]:
        """Runs a task, shows how far it is, and then what came of it."""
        told, started = self.display.told(visitor.last), time.monotonic()
        updates: Updates = {}
        try:
            visitor.begin()
            with closing(work()) as task:
                while True:
                    yield {told: view.show_progress(next(task), started)}
        except StopIteration as end:
            updates = end.value
        except StoppedError:
            updates = {told: view.say(STOPPED)}
        except InputError as error:
            updates = {told: view.say(str(error), "error")}
        except Exception:  # whatever a model or an editor raises: the visitor learns that, and the log what
            traceback.print_exc(file=sys.stderr)
            updates = {told: view.say(BROKEN, "error")}
        yield self.display.shown(visitor) | updates
