from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from renoise.core.schedule import Schedule
from renoise.editing.base import ENTRY_POINT_GROUP, Editor, EditRequest, load_editors
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion, sample
from renoise.models.base import DiffusionModel
from renoise.outputs.manifest import Manifest

REPOSITORY = Path(__file__).resolve().parents[2]


class Negative(Editor):
    """An editor of somebody else: the reconstruction's negative, mixed in by `strength`; refuses what has no prompt."""

    def __init__(self, strength: float = 1.0) -> None:
        if not 0 <= strength <= 1:
            raise InputError(f"Negative: strength must lie in 0…1, got {strength}")
        self.strength = strength

    def refusal(self, request: EditRequest) -> str | None:
        return None if request.prompt else "no prompt, no negative"

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        assert len(requests) == len(inversion.latents)
        images = model.decode_latents(sample(model, inversion))
        return self.strength * (1 - images) + (1 - self.strength) * images


class Broken(Negative):
    """Its first image turns NaN."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        images = super().edit(model, inversion, requests)
        images[0, 0, 0, 0] = torch.nan
        return images


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`installed(Name="module:Class", …)` makes these the registered editors, PromptSwap first."""

    def install(**editors: str) -> None:
        values = {"PromptSwap": "renoise_plugins.prompt_swap:PromptSwap"} | editors
        points = EntryPoints(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in values.items())
        monkeypatch.setattr("renoise.editing.base.entry_points", lambda group: points.select(group=group))

    return install


@pytest.fixture
def photos(tmp_path: Path, pictures: Callable[..., Path]) -> Path:
    """Two images with a prompt, of which one has a text to be edited to, and one without any."""
    root = pictures(tmp_path / "photos", "a.png", "b.png", "c.png")
    texts = [{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}, {"file_name": "b.png", "text": "a Cat"}]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, texts)))
    return root


def edits(folder: Path) -> dict[str, dict[str, str]]:
    return {row["file_name"]: row["edits"] for row in Manifest(folder).read()}


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder / "edits").as_posix() for path in folder.glob("edits/**/*.png"))


# Finding


def test_prompt_swap_is_registered() -> None:
    assert "PromptSwap" in load_editors()


def test_every_registered_editor_says_what_it_is() -> None:
    for name, editor in load_editors().items():
        assert issubclass(editor, Editor)
        assert editor.__name__ == name
        assert editor.__doc__


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no_such_module:Editor", r"the editor Bad \(no_such_module:Editor\) cannot be imported: No module named"),
        ("renoise_plugins.prompt_swap:Nothing", "cannot be imported: module .* has no attribute 'Nothing'"),
        ("pathlib:Path", r"Bad \(pathlib:Path\) is not a renoise\.editing\.Editor"),
        ("math:pi", r"Bad \(math:pi\) is not a renoise\.editing\.Editor"),
    ],
)
def test_an_editor_that_cannot_be_had_is_named_and_the_others_go_on(
    value: str, problem: str, installed: Callable[..., None]
) -> None:
    installed(Bad=value, Negative=f"{__name__}:Negative")
    with pytest.warns(InputWarning, match=problem):
        assert list(load_editors()) == ["PromptSwap", "Negative"]


def test_a_run_goes_on_beside_an_editor_that_cannot_be_imported(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Bad="no_such_module:Editor")
    run = predict(photos, tmp_path / "out", "--model.editors=[PromptSwap]")
    assert run.status == 0
    assert any("the editor Bad (no_such_module:Editor) cannot be imported" in warning for warning in run.warnings)
    assert files(tmp_path / "out") == ["PromptSwap/a.png.png"]


# Editing


def test_an_image_that_cannot_be_edited_says_why_and_the_rest_are_edited(
    tmp_path: Path, photos: Path, predict: Callable[..., Any]
) -> None:
    assert predict(photos, tmp_path / "out", "--model.editors=[PromptSwap]").status == 0
    refusal = "the image has no edit_text and PromptSwap no words to replace"
    assert edits(tmp_path / "out") == {
        "a.png": {"PromptSwap": "ok"},
        "b.png": {"PromptSwap": refusal},
        "c.png": {"PromptSwap": refusal},
    }
    assert files(tmp_path / "out") == ["PromptSwap/a.png.png"]


def test_several_editors_of_several_packages_with_options_from_yaml(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Negative=f"{__name__}:Negative")
    config = tmp_path / "config.yaml"
    config.write_text(
        """
        model:
          editors:
            - class_path: PromptSwap
              init_args: {replace: {cat: dog}, guidance_scale: 2}
            - class_path: Negative
            - class_path: Negative
              init_args: {strength: 0.0}
        """
    )
    run = predict(photos, tmp_path / "out", "--config", config)
    assert run.status == 0, run.err
    assert edits(tmp_path / "out") == {
        "a.png": {"PromptSwap": "ok", "Negative": "ok", "Negative-2": "ok"},
        "b.png": {"PromptSwap": "ok", "Negative": "ok", "Negative-2": "ok"},
        "c.png": {
            "PromptSwap": "the prompt '' holds none of the words to replace: cat",
            "Negative": "no prompt, no negative",
            "Negative-2": "no prompt, no negative",
        },
    }
    names = ["Negative-2/a.png.png", "Negative-2/b.png.png", "Negative/a.png.png", "Negative/b.png.png"]
    assert files(tmp_path / "out") == [*names, "PromptSwap/a.png.png", "PromptSwap/b.png.png"]
    pixels = {
        name: np.asarray(Image.open(tmp_path / "out" / name / "a.png.png"), dtype=int)
        for name in ("reconstructions", "edits/Negative", "edits/Negative-2")
    }
    assert np.abs(255 - pixels["reconstructions"] - pixels["edits/Negative"]).max() <= 1
    assert np.abs(pixels["reconstructions"] - pixels["edits/Negative-2"]).max() <= 1


def test_an_edit_that_turns_nan_is_not_written(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Broken=f"{__name__}:Broken")
    assert predict(photos, tmp_path / "out", "--model.editors=[Broken]").status == 0
    assert edits(tmp_path / "out")["a.png"] == {"Broken": "the edit turned NaN or infinite"}
    assert edits(tmp_path / "out")["b.png"] == {"Broken": "ok"}
    assert files(tmp_path / "out") == ["Broken/b.png.png"]


# Mistakes


def test_an_unknown_editor_is_answered_with_those_there_are(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Negative=f"{__name__}:Negative")
    for editors in ("[PromptSwop]", "[{class_path: PromptSwop}]", "[renoise_plugins.PromptSwap]", "PromptSwop"):
        run = predict(photos, tmp_path / "out", f"--model.editors={editors}")
        assert run.status == 2, editors
        assert "The installed editors are: Negative, PromptSwap" in run.err, editors
        assert "Traceback" not in run.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_of_an_editor_is_answered_with_those_there_are(
    tmp_path: Path, photos: Path, predict: Callable[..., Any]
) -> None:
    editors = "[{class_path: PromptSwap, init_args: {guidance: 2}}]"
    run = predict(photos, tmp_path / "out", f"--model.editors={editors}")
    assert run.status == 2
    assert "guidance_scale" in run.err


@pytest.mark.parametrize(
    ("editors", "problem"),
    [
        ("[{class_path: PromptSwap, init_args: {guidance_scale: -1}}]", "PromptSwap: guidance_scale must be 0 or more"),
        ("[{class_path: PromptSwap, init_args: {replace: {}}}]", "PromptSwap: replace must name words"),
        ("[{class_path: Negative, init_args: {strength: 2}}]", "Negative: strength must lie in 0…1, got 2.0"),
    ],
)
def test_a_mistake_in_an_editors_options_is_one_line(
    editors: str,
    problem: str,
    tmp_path: Path,
    photos: Path,
    predict: Callable[..., Any],
    installed: Callable[..., None],
) -> None:
    installed(Negative=f"{__name__}:Negative")
    run = predict(photos, tmp_path / "out", f"--model.editors={editors}")
    assert run.status == 2
    assert run.err.startswith(f"error: {problem}")
    assert run.err.count("\n") == 1


# Editors that raise, and those that cannot serve a model


class Choosy(Negative):
    """Raises for the batch as soon as `b.png` is in it."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        if any(request.file_name == "b.png" for request in requests):
            raise IndexError("no\nsuch thing")
        return super().edit(model, inversion, requests)


class Deterministic(Negative):
    """Serves no sampler that draws noise."""

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:
        if schedule.is_stochastic:
            raise InputError(f"Deterministic cannot serve a {model.family} under this sampler")


def test_an_editor_that_raises_costs_its_image_alone(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Choosy=f"{__name__}:Choosy", Negative=f"{__name__}:Negative")
    run = predict(photos, tmp_path / "out", "--model.editors=[Choosy, Negative]")
    assert run.status == 0, run.err
    assert edits(tmp_path / "out")["a.png"] == {"Choosy": "ok", "Negative": "ok"}
    assert edits(tmp_path / "out")["b.png"] == {"Choosy": "IndexError: no such thing", "Negative": "ok"}
    assert files(tmp_path / "out") == ["Choosy/a.png.png", "Negative/a.png.png", "Negative/b.png.png"]


class TooFew(Negative):
    """Forgets `b.png`, or all but one image's colors."""

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        images = super().edit(model, inversion, requests)
        kept = [row for row, request in enumerate(requests) if request.file_name != "b.png"]
        return images[kept] if len(requests) > 1 else images[kept][:, 0]


class Unsure(Negative):
    """Raises where it is asked whether it can edit `b.png`."""

    def refusal(self, request: EditRequest) -> str | None:
        if request.file_name == "b.png":
            raise KeyError("b")
        return super().refusal(request)


@pytest.mark.parametrize("editor", ["TooFew", "Unsure"])
def test_an_editor_that_breaks_the_contract_costs_its_own_edits_alone(
    editor: str, tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(**{editor: f"{__name__}:{editor}"}, Negative=f"{__name__}:Negative")
    run = predict(photos, tmp_path / "out", f"--model.editors=[{editor}, Negative]")
    assert run.status == 0, run.err
    expected = {
        "TooFew": {
            "a.png": "ValueError: the edits must be [1, 3, height, width], got [1, 32, 32]",
            "b.png": "ValueError: the edits must be [1, 3, height, width], got [0, 32, 32]",
        },
        "Unsure": {"a.png": "ok", "b.png": "KeyError: 'b'"},
    }
    found = edits(tmp_path / "out")
    assert {name: found[name][editor] for name in ("a.png", "b.png")} == expected[editor]
    assert {found[name]["Negative"] for name in ("a.png", "b.png")} == {"ok"}


@pytest.mark.parametrize("needs", [frozenset({"trajectroy"}), "trajectory"])
def test_needs_that_nothing_provides_are_refused(
    needs: object,
    tmp_path: Path,
    photos: Path,
    predict: Callable[..., Any],
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Negative, "needs", needs)
    installed(Negative=f"{__name__}:Negative")
    run = predict(photos, tmp_path / "out", "--model.editors=[Negative]")
    assert run.status == 2
    assert "error: Negative.needs must be a set of 'trajectory', 'noise', 'attention', got" in run.err


def test_a_second_editor_of_one_name_is_named(installed: Callable[..., None]) -> None:
    installed(Negative=f"{__name__}:Negative", Other=f"{__name__}:Negative")
    with pytest.warns(InputWarning, match=r"Other \(.*:Negative\): there is another editor called Negative"):
        assert list(load_editors()) == ["PromptSwap", "Negative"]


def test_an_editor_that_cannot_serve_the_sampler_says_so_before_any_image_is_touched(
    tmp_path: Path, photos: Path, predict: Callable[..., Any], installed: Callable[..., None]
) -> None:
    installed(Deterministic=f"{__name__}:Deterministic")
    run = predict(photos, tmp_path / "out", "--model.editors=[Deterministic]", "--model.eta=1")
    assert (run.status, run.err) == (
        2,
        "error: Deterministic cannot serve a StableDiffusionPipeline under this sampler\n",
    )
    assert not (tmp_path / "out/manifest.jsonl").exists()
    assert predict(photos, tmp_path / "out", "--model.editors=[Deterministic]").status == 0


def test_the_documents_example_is_installed_as_a_package_of_its_own_and_runs(tmp_path: Path, photos: Path) -> None:
    page = (REPOSITORY / "docs/plugins.md").read_text(encoding="utf-8")
    package, site = tmp_path / "half-way", tmp_path / "site"
    package.mkdir()
    (package / "pyproject.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    (package / "half_way.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    install = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, "--target", site, package], check=True)
    command = shlex.split(page.partition("\nrenoise predict ")[2].partition("\n")[0])
    small = {"data.root": photos, "data.resolution": 32, "model.num_inference_steps": 2}
    small |= {"trainer.default_root_dir": tmp_path / "out", "trainer.accelerator": "cpu"}
    code = "from renoise.cli import main; main()"
    options = [f"--{name}={value}" for name, value in small.items()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(
        [sys.executable, "-c", code, "predict", *command, *options], check=True, cwd=REPOSITORY, env=environment
    )
    assert edits(tmp_path / "out")["a.png"] == {"HalfWay": "ok"}
    assert edits(tmp_path / "out")["b.png"] == {"HalfWay": "there is no edit_text to go half way to"}
    assert files(tmp_path / "out") == ["HalfWay/a.png.png"]
