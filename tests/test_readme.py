from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler, PNDMScheduler
from helpers.data_sets import write_data_set
from PIL import Image

from renoise.cli import main
from renoise.outputs.manifest import Manifest
from renoise.presets import preset_path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "docs/data_sets.md", "docs/metrics.md", "docs/tour.md", "docs/trouble.md"]
PROGRAM = re.compile(r"^ *(?:python train_like\.py|renoise) (predict .*)$", re.MULTILINE)


def predict_commands() -> list[str]:
    """Every `predict` command of a bash block, its continued lines joined, what comes before && left out."""
    text = "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").replace(" && ", "\n")
    return [command for command in dict.fromkeys(PROGRAM.findall(blocks)) if "--help" not in command]


@pytest.mark.parametrize("command", predict_commands())
def test_every_predict_command_of_the_readme_runs(
    command: str,
    tiny_sd: Path,
    tmp_path: Path,
    stand_ins: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("sys.argv", ["renoise"])  # Lightning warns where it holds pytest's own
    stable_diffusion = tmp_path / "stable-diffusion"  # a hub id needs the network; its sampler is the real one's
    shutil.copytree(tiny_sd, stable_diffusion)
    pndm = PNDMScheduler.from_config(DDIMScheduler.from_pretrained(tiny_sd, subfolder="scheduler").config)
    pndm.save_pretrained(stable_diffusion / "scheduler")
    index = stable_diffusion / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "PNDMScheduler"))
    arguments = shlex.split(command)
    photos = tmp_path / "photos"
    write_data_set(arguments[arguments.index("--data") + 1] if "--data" in arguments else "", photos)
    shipped: dict[str, str] = {}
    if "--preset" in arguments:
        shipped = stand_ins(preset_path(arguments[arguments.index("--preset") + 1]))
    if "--config" in arguments:
        shipped |= stand_ins(REPOSITORY / arguments[arguments.index("--config") + 1])
    smaller = {f"--{option}": str(REPOSITORY / path) for option, path in shipped.items()}
    if "stable-diffusion" in command:
        smaller["--model.checkpoint"] = str(stable_diffusion)
    smaller |= {
        "--data.root": str(photos),
        "--data.resolution": "32",
        "--model.num_inference_steps": "2",
        "--trainer.default_root_dir": str(tmp_path / "out"),
        "--trainer.devices": "1",  # tests/test_many_processes.py has several
        "--trainer.strategy": "auto",
    }
    for option in smaller:
        if option in arguments:  # said in the document, so swapped in place
            arguments[arguments.index(option) + 1] = smaller[option]
        else:
            arguments += [option, smaller[option]]
    main(arguments)
    (row,) = Manifest(tmp_path / "out").read()
    assert row["status"] == "ok"


def python_block(document: str) -> str:
    """The only Python block of a document that imports `renoise`."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import renoise\n.*?)```", text, re.DOTALL)
    return str(block)


def test_the_documented_data_set_is_what_the_first_command_leaves(
    tmp_path: Path, predict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict(REPOSITORY / "data/images", tmp_path / "out/images").status == 0
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(python_block("docs/data_sets.md"), names)
    assert names["by_name"].shape == (4, 8, 8)
    assert names["first"].equal(names["by_name"])


def test_the_readmes_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, Any] = {}
    exec(python_block("README.md"), names)
    original, rebuilt, edited = (
        np.asarray(image.convert("RGB"), dtype=float) / 255
        for image in (Image.open("data/images/scenes/00-cat.png"), names["rebuilt"], names["edited"])
    )
    assert np.square(rebuilt - original).mean() < 2e-3
    assert np.square(edited - original).mean() > 2e-3


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def test_the_readme_has_commands_to_run() -> None:
    assert len(predict_commands()) >= 3


SECONDS = re.compile(r"in \d+\.\d s|, (cpu|cuda)$", re.MULTILINE)
"""What differs from machine to machine."""
HUB = {"CompVis/stable-diffusion-v1-4": "tiny-sd", "stabilityai/sdxl-turbo": "tiny-sdxl-turbo"}
HUB |= {"Salesforce/blip2-opt-2.7b": "tiny-blip2"}
"""What stands in for a hub id: a path that exists is taken before the hub's repository."""


def commands_of(document: str, *names: str) -> list[list[str]]:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    commands = [shlex.split(command) for command in re.findall(r"^renoise (.*)$", blocks, re.MULTILINE)]
    return [command for command in commands if command[0] in names]


def test_the_readmes_edit_prints_what_the_readme_says(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(REPOSITORY / "data")
    (command,) = commands_of("README.md", "edit")
    run = run_cli(*command)
    (printed,) = re.findall(r"```text\n(model: .*?)```", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)
    assert SECONDS.sub("", run.out) == SECONDS.sub("", printed)
    assert (run.status, run.warnings) == (0, [])


def test_every_command_of_the_guide_to_one_picture_runs(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for hub_id, shipped in HUB.items():
        Path(hub_id).parent.mkdir(exist_ok=True)
        Path(hub_id).symlink_to(REPOSITORY / "data/models" / shipped)
    with Image.open(REPOSITORY / "data/images/scenes/00-cat.png") as cat:
        cat.convert("RGB").save("cat.jpg")
        Image.new("L", cat.size, "white").save("mask.png")
    Path("photos").mkdir()
    for name in ("cat.jpg", "mask.png"):
        shutil.copy(name, "photos")
    texts = {"text": "a cat on a sofa", "edit_text": "a dog on a sofa", "mask": "mask.png"}
    Path("photos/metadata.jsonl").write_text(json.dumps({"file_name": "cat.jpg"} | texts), encoding="utf-8")
    for command in commands_of("docs/edit.md", "edit", "predict"):
        run = run_cli(*command, "--data.resolution=32" if command[0] == "predict" else "--resolution=32")
        assert (run.status, run.warnings) == (0, []), (command, run.err)
    run = run_cli("edit", "cat.jpg", "a cat on a sofa", "a pig on a sofa", "--resolution=32")
    assert run.out.count("kept from an earlier edit") == 1
    (row,) = Manifest(Path("out/cat")).read()
    assert (row["prompt"], row["edit_prompt"]) == ("a cat on a sofa", "a dog on a sofa")
