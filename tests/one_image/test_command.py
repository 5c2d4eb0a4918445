from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from renoise import DiffusionModel, read_image

REPOSITORY = Path(__file__).resolve().parents[2]
CAT = REPOSITORY / "data/images/scenes/00-cat.png"
TEXT, EDIT_TEXT = "a cat on a checkered green background", "a dog on a checkered green background"
NAME = "00-cat-a-dog-on-a-checkered-green-background"
MODEL = ["--model", REPOSITORY / "data/models/tiny-sdxl-turbo", "--preset", "sdxl_turbo_fast", "--resolution", "32"]
STEPS, CALLS = 4, 10
LOADING = 1
"""Calls of the network that try it once it is loaded."""

Run = Callable[..., Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call of the network."""
    made: list[int] = []
    predict_branches = DiffusionModel.predict_branches

    def counted(self: DiffusionModel, latents: Any, timestep: Any, branches: Any) -> Any:
        made.append(len(branches))
        return predict_branches(self, latents, timestep, branches)

    monkeypatch.setattr(DiffusionModel, "predict_branches", counted)
    return made


@pytest.fixture
def edit(run_cli: Run, tmp_path: Path) -> Run:
    """`edit(*options)` edits the cat, into `out`."""

    def run(*options: str | Path, image: Path = CAT, texts: tuple[str, ...] = (TEXT, EDIT_TEXT)) -> Any:
        return run_cli("edit", image, *texts, *MODEL, "-o", tmp_path / "out", *options)

    return run


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float) / 255


def files(folder: Path) -> dict[str, bytes]:
    """The content of every picture that is not in the folder of inversions, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_an_edit_writes_the_edit_the_reconstruction_and_both_beside_the_original(edit: Run, tmp_path: Path) -> None:
    run = edit("--resolution", "64")
    assert (run.status, run.err, run.warnings, run.noise) == (0, "", [], [])
    assert sorted(files(tmp_path / "out")) == [f"{NAME}-comparison.png", f"{NAME}.png", "00-cat-reconstruction.png"]
    original = read_image(CAT, 64).pixels.permute(1, 2, 0).numpy()
    rebuilt, edited = (pixels(tmp_path / "out" / name) for name in ("00-cat-reconstruction.png", f"{NAME}.png"))
    error = np.square(rebuilt - original).mean()
    assert error < 0.002
    assert np.square(edited - original).mean() > 4 * error
    printed = dict(line.split(": ", 1) for line in run.out.splitlines())
    assert printed["inversion"].startswith(f"{CALLS} network calls in ")
    assert printed[f"reconstruction, {-10 * np.log10(error):.2f} dB"] == str(tmp_path / "out/00-cat-reconstruction.png")
    assert printed["edit"] == str(tmp_path / f"out/{NAME}.png")


def test_the_comparison_shows_original_reconstruction_and_edit(edit: Run, tmp_path: Path) -> None:
    edit()
    sheet = pixels(tmp_path / f"out/{NAME}-comparison.png")
    shown = [read_image(CAT, 32).pixels.permute(1, 2, 0).numpy()]
    shown += [pixels(tmp_path / "out" / name) for name in ("00-cat-reconstruction.png", f"{NAME}.png")]
    for column, picture in enumerate(shown):
        left, top = 8 + column * 200, 26
        part = sheet[top : top + 192 : 6, left : left + 192 : 6]
        np.testing.assert_allclose(part, picture, atol=1 / 255)


def test_the_same_command_writes_the_same_bytes(edit: Run, tmp_path: Path) -> None:
    assert edit().status == edit("-o", tmp_path / "again").status == 0
    assert files(tmp_path / "out") == files(tmp_path / "again")
    (first,), (second,) = (tuple((tmp_path / name / "inversions").glob("*.safetensors")) for name in ("out", "again"))
    assert first.name == second.name
    torch.testing.assert_close(load_file(first), load_file(second), rtol=0, atol=0)


def test_a_second_edit_takes_only_the_way_back(edit: Run, tmp_path: Path, calls: list[int]) -> None:
    edit()
    first = files(tmp_path / "out")
    assert len(calls) == LOADING + CALLS + 2 * STEPS  # the reconstruction and the edit
    calls.clear()
    run = edit(texts=(TEXT, "a fox on a checkered green background"))
    assert "inversion: kept from an earlier edit\n" in run.out
    assert len(calls) == LOADING + STEPS
    assert edit().status == 0
    assert {name: files(tmp_path / "out")[name] for name in first} == first


def test_an_edit_with_another_editor_or_strength_takes_the_kept_inversion(edit: Run, calls: list[int]) -> None:
    edit()
    calls.clear()
    for options in (["--strength", "0.5"], ["--editor", "PromptToPrompt"], ["--guidance_scale", "1.5"]):
        run = edit(*options)
        assert "inversion: kept from an earlier edit\n" in run.out, run.err
    assert len(calls) == 3 * LOADING + STEPS // 2 + 2 * STEPS


@pytest.mark.parametrize("change", ["text", "resolution", "preset", "picture"])
def test_what_the_inversion_depends_on_inverts_again(change: str, edit: Run, tmp_path: Path) -> None:
    image = tmp_path / CAT.name
    image.write_bytes(CAT.read_bytes())
    edit(image=image)
    if change == "picture":
        Image.open(CAT).rotate(90).save(image)
    text = "a lion on a checkered green background" if change == "text" else TEXT
    options = {"resolution": ["--resolution", "40"], "preset": ["--preset", "sdxl_turbo"]}.get(change, [])
    run = edit(*options, image=image, texts=(text, EDIT_TEXT))
    assert re.search(r"^inversion: \d+ network calls in ", run.out, re.MULTILINE), run.err


@pytest.mark.parametrize("suffix", [".safetensors", ".png"])
def test_a_kept_file_that_is_cut_off_is_made_again(suffix: str, edit: Run, tmp_path: Path) -> None:
    edit()
    before = files(tmp_path / "out")
    (kept,) = (tmp_path / "out/inversions").glob(f"*{suffix}")
    kept.write_bytes(kept.read_bytes()[:100])
    run = edit()
    assert f"inversion: {CALLS} network calls" in run.out
    assert files(tmp_path / "out") == before


def test_invert_keeps_the_inversion_for_an_edit(run_cli: Run, edit: Run, tmp_path: Path) -> None:
    run = run_cli("invert", CAT, TEXT, *MODEL, "-o", tmp_path / "out")
    assert (run.status, run.err) == (0, "")
    (kept,) = (tmp_path / "out/inversions").glob("*.safetensors")
    assert run.out.endswith(f"kept in: {kept}\n")
    assert list(files(tmp_path / "out")) == ["00-cat-reconstruction.png"]
    assert "inversion: kept from an earlier edit\n" in edit().out


def test_outside_of_the_mask_the_pixels_are_those_of_the_picture(edit: Run, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit()
    assert edit("--mask", tmp_path / "mask.png").status == 0
    masked, everywhere = (pixels(tmp_path / f"out/{name}.png") for name in (f"{NAME}-mask", NAME))
    original = (read_image(CAT, 32).pixels * 255).round() / 255
    np.testing.assert_array_equal(masked[:, :16], everywhere[:, :16])
    np.testing.assert_allclose(masked[:, 16:], original.permute(1, 2, 0).numpy()[:, 16:], atol=1e-6)


def test_a_picture_without_a_text_is_captioned_once(
    run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that exists is taken before the hub's repository of that name
    Path("Salesforce").mkdir()
    Path("Salesforce/blip2-opt-2.7b").symlink_to(REPOSITORY / "data/models/tiny-blip2")
    for _ in range(2):
        run = run_cli("edit", CAT, "a dog on a checkered green background", *MODEL)
        assert (run.status, run.err) == (0, "")
        assert f"caption: {TEXT}\n" in run.out
        monkeypatch.setattr("renoise.one_image.picture.Captioner", None)
    assert (tmp_path / f"out/edits/{NAME}.png").exists()


def test_the_default_is_the_preset_sdxl_turbo_fast(
    run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_cli("edit", CAT, TEXT, EDIT_TEXT)
    assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)
    assert run.err.startswith("error: checkpoint: stabilityai/sdxl-turbo: no such file or folder here")
    assert "the default, the preset sdxl_turbo_fast; --model takes another" in run.err
    Path("stabilityai").mkdir()
    Path("stabilityai/sdxl-turbo").symlink_to(REPOSITORY / "data/models/tiny-sdxl-turbo")
    run = run_cli("edit", CAT, TEXT, EDIT_TEXT)
    assert "model: stabilityai/sdxl-turbo, preset sdxl_turbo_fast, 4 steps, 64×64 pixels" in run.out


def test_a_photograph_and_a_miniature_model_are_warned_of(edit: Run) -> None:
    run = edit(image=REPOSITORY / "data/photographs/chelsea.jpg")
    (told,) = run.warnings
    assert "this model draws 64×64: a miniature cannot draw photographs" in told
    assert "sixteen animals" in told


def test_a_text_that_is_too_long_is_warned_of(edit: Run) -> None:
    run = edit(texts=(TEXT, "a dog " * 50))
    assert [text.partition(":")[0] for text in run.warnings] == [
        "a text is longer than the text encoder takes; cut off"
    ]


REWEIGHT = "{class_path: PromptToPrompt, init_args: {reweight: {bird: 2}}}"
BAD_INPUT = {
    "no picture": (["notes.txt"], "notes.txt is not an image in a known format"),
    "no file": (["gone.png"], "gone.png does not exist"),
    "editor": (["cat.png", "--editor", "PromptSwop"], "editor: there is no 'PromptSwop'; there are EditFriendly, "),
    "near editor": (["cat.png", "--editor", "PromptSwop"], "did you mean PromptSwap?"),
    "refusal": (["cat.png", "--editor", REWEIGHT], "editor: PromptToPrompt cannot edit cat.png: the prompt"),
    "mapping": (["cat.png", "--editor", "{name: PromptSwap}"], "editor: {name: PromptSwap} has no class_path"),
    "strength": (["cat.png", "--strength", "2"], "editor: PromptSwap: strength must be in (0, 1], got 2"),
    "mask": (["cat.png", "--mask", "small.png"], "mask: small.png has 8×8 pixels and the image 48×48"),
    "resolution": (["cat.png", "--resolution", "33"], "resolution must be a positive multiple of 4, got 33"),
    "output": (["cat.png", "-o", "notes.txt"], "output: notes.txt cannot be written: "),
    "model": (["cat.png", "--model", "nowhere"], "checkpoint: nowhere: no such file or folder here"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line(
    case: str,
    edit: Run,
    tmp_path: Path,
    pictures: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    calls: list[int],
) -> None:
    pictures(tmp_path, "cat.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    (tmp_path / "notes.txt").write_text("notes")
    monkeypatch.chdir(tmp_path)
    (image, *options), message = BAD_INPUT[case]
    run = edit(*options, image=Path(image))
    assert (run.status, run.err.count("\n")) == (2, 1), run.err
    assert message in run.err
    assert len(calls) <= LOADING


def test_without_a_text_and_a_captioner_at_hand_the_message_says_what_to_write(edit: Run) -> None:
    run = edit(texts=(EDIT_TEXT,))
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "has no text, and its captioner, Salesforce/blip2-opt-2.7b, is not on this machine" in run.err
    assert 'renoise edit 00-cat.png "a cat on a sofa" "a dog on a sofa"' in run.err
