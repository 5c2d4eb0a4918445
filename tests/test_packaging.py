"""The wheel, the metadata of the installed package, and the citation file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import Distribution, distributions
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = {
    "renoise": "renoise",
    "renoise_plugins": "plugins",
    "renoise_presets": "configs/presets",
    "renoise_suites": "configs/suites",
    "renoise_scenes": "data/images",
    "renoise_photographs": "data/photographs",
}
"""What the wheel installs, and the folder of the repository that it comes from."""
PLUGIN_GROUPS = {
    "renoise.editors": ("renoise.editing.base", "Editor"),
    "renoise.inversions": ("renoise.inversion.base", "Inverter"),
    "renoise.models": ("renoise.models.base", "DiffusionModel"),
}
"""Entry-point groups, with the module and the name of the class that their members derive from."""


def read_pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths inside a wheel built from a copy of the repository."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tree)
    for name in (
        "renoise",
        "plugins",
        "configs",
        "data/images",
        "data/photographs",
        "benchmarks",
        "tiny_models",
        "tests",
    ):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('wheel')"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    (path,) = (tree / "wheel").iterdir()
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed() -> Distribution:
    """The installed distribution; the `.egg-info` that a build leaves in the tree has no RECORD."""
    found = [each for each in distributions(name="renoise") if each.read_text("RECORD") is not None]
    assert found, "renoise is not installed: run `pip install .`"
    return found[0]


def test_the_wheel_contains_every_file_of_its_packages_and_nothing_else(wheel: set[str]) -> None:
    expected = {
        f"{package}/{path.relative_to(REPOSITORY / folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in wheel if ".dist-info/" not in path} == expected


def test_the_wheel_contains_type_markers_presets_and_the_license(wheel: set[str]) -> None:
    assert {"renoise/py.typed", "renoise_plugins/py.typed", "renoise_presets/sdxl_turbo.yaml"} <= wheel
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in wheel)


@pytest.mark.parametrize("group", PLUGIN_GROUPS)
def test_entry_points_lead_to_classes_of_their_names(group: str) -> None:
    module, base = PLUGIN_GROUPS[group]
    entries = read_pyproject()["project"]["entry-points"][group]
    assert entries
    for name, value in entries.items():
        path, _, attribute = value.partition(":")
        plugin = getattr(import_module(path), attribute)
        assert issubclass(plugin, getattr(import_module(module), base))
        assert plugin.__name__ == name, "YAML files use the name of the class"


@pytest.mark.parametrize("group", PLUGIN_GROUPS)
def test_the_installed_entry_points_are_those_of_pyproject(group: str, installed: Distribution) -> None:
    registered = {entry.name: entry.value for entry in installed.entry_points.select(group=group)}
    assert registered == read_pyproject()["project"]["entry-points"][group], "run `pip install -e .` again"


def test_the_console_script_is_the_command_line(installed: Distribution) -> None:
    (script,) = installed.entry_points.select(group="console_scripts")
    assert script.name == "renoise"
    assert script.value == "renoise.cli:main"
    assert callable(script.load())


def test_the_metadata_names_the_license(installed: Distribution) -> None:
    assert installed.metadata["License-Expression"] == "Apache-2.0"


def test_the_sprites_of_the_tiny_models_are_beside_their_code() -> None:
    from tiny_models.scenes import SUBJECTS

    assert all((files("tiny_models") / "sprites" / f"{subject}.png").is_file() for subject in SUBJECTS)


def test_the_citation_file_describes_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = read_pyproject()["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), "keys that CFF 1.2.0 requires"
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Homepage"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys(), "keys that CFF 1.2.0 requires of a reference"
    assert paper["title"] == "ReNoise: Real Image Inversion Through Iterative Noising"
    assert [author["family-names"] for author in paper["authors"]] == [
        "Garibi",
        "Patashnik",
        "Voynov",
        "Averbuch-Elor",
        "Cohen-Or",
    ]
    assert {"type": "other", "value": "arXiv:2403.14602", "description": "arXiv preprint"} in paper["identifiers"]
