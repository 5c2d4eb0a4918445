"""The packages of docs/plugins.md, installed as printed and run by the printed commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/plugins.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])}


def run(*arguments: str | Path, **environment: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, cwd=REPOSITORY, env=os.environ | environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of all sections installed."""
    folder = tmp_path_factory.mktemp("packages")
    for title in ("An editor", "An inversion method", "A model family"):
        package = folder / title
        package.mkdir()
        for name, content in re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```", SECTIONS[title], re.M | re.S):
            (package / name).write_text(content, encoding="utf-8")
    install = ["-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--quiet"]
    run(*install, "--target", folder / "site", *(path for path in folder.iterdir()))
    return folder / "site"


def command(title: str) -> list[str]:
    """Returns the options of the `renoise predict` command of a section."""
    (found,) = re.findall(r"^renoise predict (.*)$", SECTIONS[title], re.MULTILINE)
    return shlex.split(found)


def test_the_packages_of_the_guide_run_by_their_class_names(
    site: Path, tmp_path: Path, pictures: Callable[..., Path], tiny_sd: Path
) -> None:
    photos = pictures(tmp_path / "photos", "a.png", "b.png")
    texts = [{"file_name": "a.png", "text": "a cat", "edit_text": "a dog"}, {"file_name": "b.png", "text": "a cat"}]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, texts)))

    # The family is found by the pipeline class that the checkpoint names.
    checkpoint = shutil.copytree(tiny_sd, tmp_path / "checkpoint", symlinks=True)
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (checkpoint / "model_index.json").write_text(json.dumps(index))

    small = {"data.root": photos, "data.resolution": 32, "model.num_inference_steps": 2, "trainer.accelerator": "cpu"}
    options = [f"--{name}={value}" for name, value in small.items()]
    outputs = {title: tmp_path / title for title in ("An editor", "An inversion method")}
    commands = [
        ["predict", *command(title), *options, f"--trainer.default_root_dir={outputs[title]}"] for title in outputs
    ]
    commands[1].append(f"--model.checkpoint={checkpoint}")
    code = "\n".join(["from renoise.cli import main", *(f"main({command!r})" for command in commands)])
    run("-c", code, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    rows = {
        title: {row["file_name"]: row for row in map(json.loads, (output / "manifest.jsonl").read_text().splitlines())}
        for title, output in outputs.items()
    }
    edits = {name: row["edits"] for name, row in rows["An editor"].items()}
    assert edits == {"a.png": {"HalfWay": "ok"}, "b.png": {"HalfWay": "the image has no edit_text"}}
    assert (outputs["An editor"] / "edits/HalfWay/a.png.png").exists()
    assert {row["status"] for row in rows["An inversion method"].values()} == {"ok"}
    assert {row["nfe"] for row in rows["An inversion method"].values()} == {0}
