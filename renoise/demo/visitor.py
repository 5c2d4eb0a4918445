"""One visitor of the page, who inverts a picture and edits it. Nothing in this file knows the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import TypeVar

from PIL import Image

from renoise.demo.drawn_mask import mask_from_layers
from renoise.demo.studio import Studio, edit_options, invert_options
from renoise.demo.turns import Progress, StoppedError, Task
from renoise.demo.work import Edit, EditForm, Work
from renoise.editing.base import EditRequest
from renoise.errors import InputError
from renoise.one_image.drawing import draw_comparison, draw_edit, edit_name, reconstruction_psnr
from renoise.one_image.kept import INVERSIONS, invert_anew
from renoise.one_image.options import check_texts
from renoise.one_image.picture import Picture, caption, open_picture
from renoise.one_image.setup import check_editor, make_editor, note_on_picture, note_on_text
from renoise.outputs.images import to_pil, to_png
from renoise.utils.files import write_atomically

Result = TypeVar("Result")
EDITS, MASKS = "edits", "masks"
"""Folders of a visitor's files, beside the picture and the inversion."""


class Kind(Enum):
    """What a task on the model does."""

    DESCRIBE = "describe"
    INVERT = "invert"
    EDIT = "edit"


class Visitor:
    """One visitor. `last` is the kind of the task that runs, or ran last.

    Args:
        studio: What all visitors share.
        folder: Where the visitor's files are kept.
    """

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio = studio
        self.folder = folder
        self.work: Work | None = None
        self.last = Kind.INVERT
        self._waits = False
        self._task: Task | None = None
        self._lock = Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a task of this visitor runs or waits for the model."""
        return self._waits or (self._task is not None and not self._task.ended.is_set())

    @property
    def archive(self) -> Path:
        """The ZIP file of the visitor's files."""
        return self.folder.with_name(f"{self.folder.name}.archive") / "renoise.zip"

    def wait(self, kind: Kind) -> None:
        """Notes that a task of this visitor is in the queue of the page."""
        self.last = kind
        self._waits = True

    def begin(self) -> None:
        """Ends the waiting.

        Raises:
            StoppedError: The visitor stopped it, or left.
        """
        if not self._waits:
            raise StoppedError
        self._waits = False

    def open(self, file: Path) -> None:
        """Takes a picture. What was made of an earlier one is forgotten, and a task on it is ended.

        Args:
            file: The file that was uploaded, or a sample.

        Raises:
            InputError: It is no picture that can be read. The earlier one is kept.
        """
        name = re.sub(r"[^\w. -]", "_", file.name).lstrip("-. ") or "picture"
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        copy = fresh / (name if Path(name).suffix else f"{name}.img")
        shutil.copyfile(file, copy)
        with self._without_folders(fresh):
            opened = open_picture(copy)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        fresh.rename(self.folder)
        picture = Picture(self.folder / copy.name, opened.sha256, opened.size)
        note = note_on_picture(self.studio.pipeline, picture)
        notes = [] if note is None else [self._without_folder(note, self.folder)]
        self.work = Work(picture, to_pil(picture.pixels(self.studio.side)), notes)

    def describe(self) -> Generator[Progress, None, str]:
        """Returns what the picture shows, by the captioner of the preset.

        Raises:
            InputError: There is no picture, or no captioner.
            StoppedError: The visitor stopped it.
        """
        work, preset = self._opened(), self.studio.shown.preset
        return (yield from self._run(lambda: caption(work.picture, preset, self.folder / INVERSIONS)))

    def invert(self, text: str) -> Generator[Progress, None, None]:
        """Inverts the picture. Edits of an earlier inversion stay.

        Args:
            text: What the picture shows.

        Raises:
            InputError: There is no picture, the text is empty, or the picture cannot be inverted.
            StoppedError: The visitor stopped it. An earlier inversion is kept.
        """
        work, text = self._opened(), text.strip()
        if not text:
            raise InputError("the text of the picture is empty; say what it shows")
        yield from self._run(lambda: self._invert(work, text))

    def edit(self, form: EditForm) -> Generator[Progress, None, None]:
        """Edits the picture.

        Args:
            form: What the visitor asks for.

        Raises:
            InputError: There is no inversion, or the picture cannot be edited like this.
            StoppedError: The visitor stopped it.
        """
        work = self._opened()
        if work.options is None:
            raise InputError("invert the picture first")
        check_texts(work.options.text, form.edit_text)
        self.studio.editor(form.editor)
        yield from self._run(lambda: self._edit(work, form))

    def stop(self) -> None:
        """Ends the task that runs or waits. Returns when it has ended, which is after its step."""
        self._waits = False
        if self._task is not None:
            self._task.stop.set()
            self._task.ended.wait()

    def leave(self) -> None:
        """Ends the task that runs, and removes the visitor's files."""
        self.stop()
        self.work = None
        for folder in (self.folder, self.archive.parent):
            shutil.rmtree(folder, ignore_errors=True)

    def _opened(self) -> Work:
        if self.work is None:
            raise InputError("choose a picture first")
        return self.work

    def _run(self, work: Callable[[], Result]) -> Generator[Progress, None, Result]:
        """Runs a task of this visitor, of whom no other one runs."""
        with self._lock:
            if self.is_busy:
                raise InputError("wait until the last task is done, or stop it")
            self._task = task = Task()
        with self._without_folders(self.folder):
            return (yield from self.studio.turns.run(work, task))

    def _invert(self, work: Work, text: str) -> None:
        studio, picture = self.studio, work.picture
        file = self.folder / INVERSIONS / f"{picture.name}.safetensors"
        inverted = invert_anew(picture, text, studio.side, studio.pipeline, file)
        self._write(f"{picture.name}-reconstruction", inverted.reconstruction)
        residuals = inverted.images.inversion.step_residuals
        work.residuals = [] if residuals is None else residuals[:, 0].flip(0).tolist()
        work.psnr = reconstruction_psnr(picture, inverted.reconstruction)
        work.inverted = inverted
        work.options = invert_options(studio.shown, Path(picture.path.name), text)
        note = note_on_text(studio.pipeline, text)
        work.text_note = note or ""

    def _edit(self, work: Work, form: EditForm) -> None:
        assert work.options is not None
        assert work.options.text is not None
        assert work.inverted is not None
        choice, text, edit_text = self.studio.editor(form.editor), work.options.text, form.edit_text.strip()
        number = f"{len(work.edits) + 1:02}"
        given: dict[str, object] = {
            name: value
            for name, value in (("guidance_scale", form.guidance_scale), ("strength", form.strength))
            if getattr(choice, name) not in (None, value)
        }
        mask = mask_from_layers(form.layers, self.studio.canvas, work.picture.size)
        if mask is not None:
            given["mask"] = Path(MASKS, f"{number}.png")
        options = edit_options(self.studio.shown, work.options.image, text, edit_text, choice.option, **given)
        editor = make_editor(options)
        check_editor(editor, self.studio.pipeline, EditRequest(options.image.name, text, edit_text))
        if mask is not None:
            write_atomically(self.folder / MASKS / f"{number}.png", to_png(mask))
        picture = open_picture(work.picture.path, None if options.mask is None else self.folder / options.mask)
        edited = draw_edit(picture, work.inverted, editor, edit_text)
        name = f"{number}-{work.picture.name}-{edit_name(options)}"
        self._write(name, edited)
        self._write(f"{name}-comparison", draw_comparison(picture, work.inverted, edited, edit_text))
        note = note_on_text(self.studio.pipeline, edit_text) or ""
        work.edits.append(Edit(edited, options, choice.name, editor.init_args, f"{name}.png", note))

    def _write(self, name: str, picture: Image.Image) -> None:
        write_atomically(self.folder / EDITS / f"{name}.png", to_png(picture))

    @contextmanager
    def _without_folders(self, folder: Path) -> Iterator[None]:
        """Takes this machine's folders out of messages for the visitor."""
        try:
            yield
        except InputError as error:
            raise InputError(self._without_folder(str(error), folder)) from error

    @staticmethod
    def _without_folder(message: str, folder: Path) -> str:
        return message.replace(f"{folder}/", "")
