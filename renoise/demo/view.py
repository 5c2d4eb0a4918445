"""What the page shows of a visitor's work: texts, as HTML where they have a form."""

from __future__ import annotations

import time
from html import escape
from pathlib import PurePosixPath

from renoise.demo.curve import draw_curve
from renoise.demo.recipe import command_line, python_of_edit, python_of_inversion
from renoise.demo.studio import EditorChoice, Studio
from renoise.demo.turns import Progress
from renoise.demo.work import Edit, Work

MINIATURE_NOTE = (
    "This model is a miniature: it knows sixteen animals on patterned backgrounds, and cannot draw photographs."
)
NO_CAPTIONER = "There is no captioner on this server, so type what the picture shows."
HOW_TO_RUN = "Unpack the download, and run one of these in its folder: the same picture, inversion and edit."
NOTHING_SOLVED = "This method inverts its steps without iterating, so there is no residual to show."


def say(text: str, kind: str = "hint") -> str:
    """Returns a line for the visitor.

    Args:
        text: The line.
        kind: `hint`, `note` for a warning, or `error`.
    """
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="said {kind}"{role}>{escape(text)}</p>' if text else ""


def show_progress(progress: Progress, started: float) -> str:
    """Returns how far a task is, as a bar with a line.

    Args:
        progress: Of the task.
        started: When it began, on the clock of `time.monotonic`.
    """
    text = progress.description
    if progress.total:
        text += f": step {min(progress.done + 1, progress.total)} of {progress.total}"
    bar = f'<progress max="{max(1, progress.total)}" value="{progress.done}"></progress>'
    return f'<div class="said running">{bar}<p>{escape(text)}, {time.monotonic() - started:.0f} s</p></div>'


def header(studio: Studio) -> str:
    """Returns the title of the page, with the model."""
    note = say(MINIATURE_NOTE, "note") if studio.is_miniature else ""
    return (
        "<h1>ReNoise</h1><p>Find the noise that a diffusion model turns back into your picture, then change the words."
        f"</p><p class='model'>Model: {escape(studio.describe())}</p>{note}"
    )


def notes(work: Work | None) -> str:
    """Returns what the visitor should know about the picture and the texts."""
    if work is None:
        return ""
    texts = [*work.notes, work.text_note, *(edit.note for edit in work.edits[-1:])]
    return "".join(say(text, "note") for text in dict.fromkeys(texts))


def about_inversion(work: Work | None) -> str:
    """Returns how the inversion went."""
    if work is None:
        return say("Choose a picture first.")
    if work.inverted is None or work.options is None:
        return say("The picture is not inverted yet.")
    return say(f"Inverted as “{work.options.text}”: {work.inverted.origin}.", "done")


def reconstruction_label(work: Work | None) -> str:
    """Returns the label of the reconstruction, with its PSNR."""
    if work is None or work.inverted is None:
        return "reconstruction"
    return f"reconstruction, {work.psnr:.2f} dB PSNR"


def curve(work: Work | None) -> str:
    """Returns the residual of every step of the inversion."""
    if work is None or work.inverted is None:
        return ""
    drawn = draw_curve(work.residuals)
    if not drawn:
        return say(NOTHING_SOLVED)
    unsolved = sum(residual != residual for residual in work.residuals)
    note = say(f"{unsolved} of {len(work.residuals)} steps are exact without iterating.") if unsolved else ""
    return f'<h3>Convergence: residual of each step</h3><div class="plot">{drawn}</div>{note}'


def about_edits(work: Work | None, edit: Edit | None) -> str:
    """Returns what the edit is."""
    if work is None or work.inverted is None:
        return say("Invert the picture first.")
    if edit is None:
        return say("Say what the picture is to show, and press Edit.")
    return say(f"{edit.editor}: “{edit.options.edit_text}”, from “{edit.options.text}”.", "done")


def caption_of(edit: Edit) -> str:
    """Returns the line below an edit in the history."""
    options = edit.options
    given = {"guidance": options.guidance_scale, "strength": options.strength}
    words = [f"{name} {value:g}" for name, value in given.items() if value is not None]
    words += ["mask"] if options.mask else []
    return ", ".join([options.edit_text, *([options.editor] if options.editor else []), *words])


def explain(choice: EditorChoice) -> str:
    """Returns what an editing method does."""
    return choice.explanation.replace("`", "")


def recipe(studio: Studio, work: Work | None, edit: Edit | None) -> tuple[str, str]:
    """Returns the command line and the Python code of an edit, or of the inversion where there is none."""
    options = edit.options if edit is not None else work.options if work is not None else None
    if options is None:
        return "", ""
    python = python_of_inversion(options, studio.side, studio.device, studio.keeps_trajectory)
    if edit is not None:
        python += python_of_edit(edit.options, edit.editor, edit.init_args, PurePosixPath(edit.name).name)
    return command_line(options), python
