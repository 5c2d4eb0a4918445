"""What `pip install` leaves behind, whether ordinary or editable."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, distributions
from importlib.resources import files
from pathlib import Path

import pytest

from renoise.cli import main
from renoise.editing.base import ENTRY_POINT_GROUP, Editor
from tiny_models.scenes import SUBJECTS

REPOSITORY = Path(__file__).resolve().parents[1]
IN_TREE = {"renoise": REPOSITORY / "renoise", "renoise_plugins": REPOSITORY / "plugins"}


@pytest.fixture(scope="module")
def installed() -> Distribution:
    """The installed distribution; the `.egg-info` that a build leaves in the tree has no RECORD."""
    found = [each for each in distributions(name="renoise") if each.read_text("RECORD") is not None]
    assert found, "renoise is not installed: pip install ."
    return found[0]


def is_editable(distribution: Distribution) -> bool:
    """Whether the modules are the tree's own."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def test_the_editors_are_registered_and_load(installed: Distribution) -> None:
    editors = {entry.name: entry.load() for entry in installed.entry_points.select(group=ENTRY_POINT_GROUP)}
    assert "PromptSwap" in editors
    for name, editor in editors.items():
        assert issubclass(editor, Editor)
        assert editor.__name__ == name  # what YAML calls it


def test_the_console_script_is_the_command_line(installed: Distribution) -> None:
    (script,) = installed.entry_points.select(group="console_scripts")
    assert script.name == "renoise"
    assert script.load() is main


def test_the_license_is_declared_and_inside(installed: Distribution) -> None:
    assert installed.metadata["License-Expression"] == "Apache-2.0"
    assert any(path.name == "LICENSE" for path in installed.files or ())


def test_type_markers_and_sprites_are_found_beside_the_code() -> None:
    assert all((files(package) / "py.typed").is_file() for package in IN_TREE)
    assert all((files("tiny_models") / "sprites" / f"{subject}.png").is_file() for subject in SUBJECTS)


def test_every_file_of_the_packages_is_installed(installed: Distribution) -> None:
    """A package that pyproject.toml's list forgets is missing only from ordinary installs."""
    if is_editable(installed):
        pytest.skip("an editable install is the tree itself")
    there = {path.as_posix() for path in installed.files or ()}
    wanted = {
        (Path(package) / path.relative_to(folder)).as_posix()
        for package, folder in IN_TREE.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= there
