from __future__ import annotations

import math
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.demo import CAT, EDIT_TEXT, MODEL, REPOSITORY, TEXT, words
from PIL import Image

from renoise import load_inversion
from renoise.demo import view
from renoise.demo.archive import write_archive
from renoise.demo.studio import Studio
from renoise.demo.turns import StoppedError
from renoise.demo.visitor import Kind, Visitor
from renoise.demo.visitors import Visitors
from renoise.demo.work import EditForm, Work
from renoise.errors import InputError
from renoise.one_image.options import parse_invert

Finish = Callable[[Any], Any]


def work_of(visitor: Visitor) -> Work:
    assert visitor.work is not None
    return visitor.work


def left_half(studio: Studio) -> Image.Image:
    layer = Image.new("RGBA", (studio.canvas, studio.canvas))
    layer.paste((255, 255, 255, 178), (0, 0, studio.canvas // 2, studio.canvas))
    return layer


@pytest.fixture
def inverted(visitor: Visitor, finish: Finish) -> Visitor:
    visitor.open(CAT)
    finish(visitor.invert(TEXT))
    return visitor


def test_a_picture_is_inverted_once_and_edited_often(inverted: Visitor, finish: Finish) -> None:
    work = work_of(inverted)
    assert work.psnr > 27
    assert work.inverted is not None
    assert (
        np.square(np.asarray(work.inverted.reconstruction, float) / 255 - np.asarray(work.square, float) / 255).mean()
        < 2e-3
    )
    residuals = [value for value in work.residuals if not math.isnan(value)]
    assert (len(work.residuals), len(residuals)) == (4, 1)  # the preset draws all steps but the cleanest
    assert residuals[0] == pytest.approx(float(work.inverted.images.inversion.residual[0]))
    for number, editor in enumerate(["PromptSwap", "PromptToPrompt"], start=1):
        choice = inverted.studio.editor(editor)
        assert choice.guidance_scale is not None
        finish(inverted.edit(EditForm(EDIT_TEXT, editor, choice.guidance_scale, 1.0)))
        assert len(work.edits) == number
    assert work.edits[0].picture != work.edits[1].picture


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_command_and_the_python_that_are_shown_make_the_same_edit(
    with_mask: bool,
    inverted: Visitor,
    finish: Finish,
    tmp_path: Path,
    run_cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = inverted.studio
    form = EditForm(EDIT_TEXT, "PromptSwap", 1.0, 1.0)
    if with_mask:
        form = EditForm(EDIT_TEXT, "PromptToPrompt", 2.0, 0.75, [left_half(studio)])
    finish(inverted.edit(form))
    (edit,) = work_of(inverted).edits
    command, python = view.recipe(studio, work_of(inverted), edit)
    write_archive(inverted.folder, tmp_path / "all.zip")
    there = tmp_path / "unpacked"
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(there)
    (there / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(there)
    exec(python, {})
    with Image.open(edit.name) as made:
        assert made.tobytes() == edit.picture.tobytes()
    program, *arguments = words(command)
    run = run_cli(*arguments)
    assert (program, run.status, run.err) == ("renoise", 0, "")
    (made_by_command,) = (path for path in Path("out/edits").glob("00-cat-a-*.png") if "comparison" not in path.name)
    with Image.open(made_by_command) as made:
        assert made.tobytes() == edit.picture.tobytes()


def test_the_command_of_an_inversion_alone_parses_and_names_the_model(inverted: Visitor) -> None:
    command, python = view.recipe(inverted.studio, work_of(inverted), None)
    options = parse_invert(words(command)[2:])
    assert (options.text, options.model, options.preset) == (TEXT, MODEL, "sdxl_turbo_fast")
    compile(python, "shown", "exec")


def test_everything_can_be_downloaded_and_names_no_folder_of_this_machine(
    inverted: Visitor, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(inverted.edit(EditForm(EDIT_TEXT, "PromptSwap", 1.0, 1.0, [left_half(inverted.studio)])))
    write_archive(inverted.folder, tmp_path / "all.zip")
    edit = "edits/01-00-cat-a-dog-on-a-checkered-green-background-mask"
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert set(content) == {
        "00-cat.png",
        f"{edit}-comparison.png",
        f"{edit}.png",
        "edits/00-cat-reconstruction.png",
        "inversions/00-cat.safetensors",
        "masks/01.png",
    }
    assert content["00-cat.png"] == CAT.read_bytes()
    for name, data in content.items():
        assert str(REPOSITORY).encode() not in data, name
        assert str(tmp_path).encode() not in data, name
    (tmp_path / "cat.safetensors").write_bytes(content["inversions/00-cat.safetensors"])
    monkeypatch.chdir(REPOSITORY)
    assert load_inversion(tmp_path / "cat.safetensors").prompts == [TEXT]


def test_outside_of_what_was_drawn_the_pixels_are_those_of_the_picture(inverted: Visitor, finish: Finish) -> None:
    finish(inverted.edit(EditForm(EDIT_TEXT, "PromptSwap", 1.0, 1.0, [left_half(inverted.studio)])))
    work = work_of(inverted)
    edited, square = (np.asarray(image) for image in (work.edits[0].picture, work.square))
    np.testing.assert_array_equal(edited[:, 32:], square[:, 32:])
    assert (edited[:, :32] != square[:, :32]).any()


def test_a_task_that_is_stopped_keeps_what_there_was(inverted: Visitor, finish: Finish) -> None:
    work = work_of(inverted)
    before = work.inverted
    task = inverted.invert("a fox on a checkered green background")
    next(task)
    assert inverted.is_busy
    with pytest.raises(InputError, match="wait until the last task is done, or stop it"):
        finish(inverted.edit(EditForm(EDIT_TEXT, "PromptSwap", 1.0, 1.0)))
    inverted.stop()
    with pytest.raises(StoppedError):
        finish(task)
    assert not inverted.is_busy
    assert work.inverted is before


def test_a_task_that_is_stopped_in_the_queue_does_not_begin(visitor: Visitor) -> None:
    visitor.wait(Kind.INVERT)
    assert visitor.is_busy
    visitor.stop()
    with pytest.raises(StoppedError):
        visitor.begin()


def test_another_picture_begins_anew_and_ends_the_task_on_the_last_one(inverted: Visitor, finish: Finish) -> None:
    task = inverted.invert(TEXT)
    next(task)
    inverted.open(CAT.with_name("01-dog.png"))
    with pytest.raises(StoppedError):
        finish(task)
    work = work_of(inverted)
    assert (work.picture.path.name, work.inverted, work.edits) == ("01-dog.png", None, [])
    assert [path.name for path in inverted.folder.rglob("*")] == ["01-dog.png"]


def test_a_visitor_who_leaves_frees_the_model_and_leaves_no_file(
    studio: Studio, finish: Finish, tmp_path: Path
) -> None:
    visitors = Visitors(studio, tmp_path / "visitors")
    first, second = visitors.of("first"), visitors.of("second")
    assert visitors.of("first") is first
    first.open(CAT)
    second.open(CAT.with_name("02-fox.png"))
    task = first.invert(TEXT)
    next(task)
    visitors.leave("first")
    assert not first.folder.exists()
    finish(second.invert("a fox on a dotted pink background"))
    assert work_of(second).inverted is not None
    with pytest.raises(StoppedError):
        finish(task)
    assert not first.folder.exists()
    visitors.leave("nobody")


BAD_INPUT = {
    "no picture": (lambda visitor: visitor.invert(TEXT), "choose a picture first"),
    "empty": (lambda visitor: visitor.invert(" "), "the text of the picture is empty; say what it shows"),
    "not inverted": (lambda visitor: visitor.edit(EditForm(EDIT_TEXT, "PromptSwap", 1, 1)), "invert the picture first"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_a_task_without_what_it_needs_is_refused(case: str, visitor: Visitor, finish: Finish) -> None:
    if case != "no picture":
        visitor.open(CAT)
    task, message = BAD_INPUT[case]
    with pytest.raises(InputError, match=message):
        finish(task(visitor))
    assert not visitor.is_busy


def test_an_edit_that_cannot_be_made_is_refused_in_one_line(inverted: Visitor, finish: Finish) -> None:
    wrong = {
        "the text of the edit is empty": EditForm(" ", "PromptSwap", 1, 1),
        "the picture and the edit have the same text": EditForm(TEXT, "PromptSwap", 1, 1),
        "editor: 'Nothing' cannot be chosen here; there are PromptSwap": EditForm(EDIT_TEXT, "Nothing", 1, 1),
        "mask: it has 8×8 pixels": EditForm(EDIT_TEXT, "PromptSwap", 1, 1, [Image.new("RGBA", (8, 8), "white")]),
        "editor: PromptToPrompt cannot edit 00-cat.png": EditForm("a dog", "PromptToPrompt", 1, 1),
        "editor: PromptSwap: strength 0.1 of 4 steps leaves no step": EditForm(EDIT_TEXT, "PromptSwap", 1, 0.1),
    }
    for message, form in wrong.items():
        with pytest.raises(InputError) as raised:
            finish(inverted.edit(form))
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
        assert "/" not in str(raised.value)
    assert work_of(inverted).edits == []


def test_a_file_that_is_no_picture_is_refused_without_a_path_and_the_last_one_stays(
    inverted: Visitor, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    work = work_of(inverted)
    with pytest.raises(InputError) as raised:
        inverted.open(tmp_path / "notes.txt")
    assert str(raised.value).startswith("notes.txt is not an image in a known format")
    assert "/" not in str(raised.value)
    assert inverted.work is work
    assert work.picture.path.exists()


@pytest.mark.parametrize("name", ["-rf.png", "a b;c$(d).png", "…", ".png", "x" * 200 + ".png"])
def test_any_name_of_a_picture_is_made_one_that_a_command_can_take(name: str, visitor: Visitor, tmp_path: Path) -> None:
    shutil.copyfile(CAT, tmp_path / name)
    visitor.open(tmp_path / name)
    assert re.fullmatch(r"\w[\w. -]*\.\w+", work_of(visitor).picture.path.name)


def test_a_picture_named_like_a_folder_of_the_download_can_be_edited(
    visitor: Visitor, finish: Finish, tmp_path: Path
) -> None:
    shutil.copyfile(CAT, tmp_path / "edits")
    visitor.open(tmp_path / "edits")
    finish(visitor.invert(TEXT))
    finish(visitor.edit(EditForm(EDIT_TEXT, "PromptSwap", 1.0, 1.0)))
    assert len(work_of(visitor).edits) == 1


def test_a_photograph_is_warned_of_without_a_path(visitor: Visitor) -> None:
    visitor.open(REPOSITORY / "data/photographs/chelsea.jpg")
    (note,) = work_of(visitor).notes
    assert note.startswith("chelsea.jpg has ")
    assert "a miniature cannot draw photographs" in note


def test_a_text_that_is_too_long_is_warned_of(inverted: Visitor, finish: Finish) -> None:
    finish(inverted.edit(EditForm("a dog " * 50, "PromptSwap", 1, 1)))
    assert "longer than the text encoder takes" in view.notes(work_of(inverted))


def test_texts_of_visitors_are_escaped(inverted: Visitor, finish: Finish) -> None:
    finish(inverted.edit(EditForm("<script>x</script> & a dog", "PromptSwap", 1, 1)))
    work = work_of(inverted)
    shown = view.about_edits(work, work.edits[0])
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
