from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from renoise.editing.base import Editor
from renoise.errors import InputError
from renoise.inversion.base import Inverter
from renoise.inversion.ddim import DDIM
from renoise.inversion.renoise import ReNoise
from renoise.presets import describe_presets, instantiate, preset_names, preset_path, read_preset


def test_the_presets_are_files_with_a_line_about_each() -> None:
    paper, own = (
        ["lcm_lora", "sd14", "sdxl", "sdxl_turbo"],
        ["lcm_lora_fast", "sd_fast", "sdxl_fast", "sdxl_turbo_fast"],
    )
    of_flow = ["flux2_klein", "flux_dev", "flux_schnell", "sd35", "z_image_turbo"]
    assert preset_names() == sorted([*paper, *own, *of_flow])
    for name, line in describe_presets().items():
        assert preset_path(name).is_file()
        if name in of_flow:
            assert "by flow matching" in line
            continue
        assert ("faster and more exact than the paper's" if name in own else "settings of the paper") in line


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"^preset: there is no 'turbo'; there are flux2_klein, flux_dev, flux_schnell, lcm_lora, "
    ):
        read_preset("turbo")


def test_later_files_override_single_values(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model: {inversion: {init_args: {iterations: 2}}}")
    inversion = read_preset("sdxl_turbo", overlay)["model"]["inversion"]
    assert inversion["class_path"] == "ReNoise"
    assert inversion["init_args"]["iterations"] == 2
    assert inversion["init_args"]["noise_correction"] == {"method": "optimize", "steps": 3}


@pytest.mark.parametrize("name", ["lcm_lora", "sd14", "sdxl", "sdxl_turbo"])
def test_an_overlay_adds_the_reference_size_to_the_weights_of_its_preset(name: str) -> None:
    overlay = Path(__file__).parents[1] / "configs/tiny" / f"{name}.yaml"
    paper, tiny = (
        instantiate(Inverter, read_preset(*sources)["model"]["inversion"]).init_args["regularization"]
        for sources in ([name], [name, overlay])
    )
    assert paper.reference_size is None
    assert tiny == replace(paper, reference_size=128 if name == "sdxl" else 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read: No such file"),
        ("model: [1", r"is not YAML: "),
        ("- model", r"must be a YAML mapping"),
    ],
)
def test_a_file_that_is_no_preset_is_named(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(InputError, match=r"^preset: .*own\.yaml " + message):
        read_preset(tmp_path / "own.yaml")


@pytest.mark.parametrize("iterations", [0, 1, 2, 9, 20])
@pytest.mark.parametrize("name", ["lcm_lora", "sd14", "sdxl", "sdxl_turbo"])
def test_changing_the_iterations_alone_works(name: str, iterations: int) -> None:
    setting = read_preset(name)["model"]["inversion"]
    setting["init_args"]["iterations"] = iterations
    method = instantiate(Inverter, setting)
    assert isinstance(method, ReNoise)
    assert len(method.step.weights(timestep=999)) == iterations + 1


def test_objects_are_made_by_class_name_alone() -> None:
    assert type(instantiate(Inverter, "DDIM")) is DDIM
    editor = instantiate(Editor, {"class_path": "PromptSwap", "init_args": {"strength": 0.5}})
    assert editor.init_args["strength"] == 0.5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"class_path": "ReNoise", "init_args": {"iterations": -1}}, "iterations must be 0 or more, got -1"),
        ({"class_path": "ReNoise", "init_args": {"iteration": 1}}, "iteration"),
        ("Magic", "Magic"),
    ],
)
def test_a_wrong_setting_is_an_input_error(setting: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        instantiate(Inverter, setting)
