"""The building's rules: which room imports from which, and what every public name owes its reader."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^  (\w+) ", CONTRIBUTING.partition("\nrenoise/\n")[2].partition("\nplugins/")[0], re.MULTILINE)
"""From the ground up, as CONTRIBUTING.md lists them."""
MODULES = sorted([*REPOSITORY.glob("renoise/**/*.py"), *REPOSITORY.glob("plugins/**/*.py")])
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())

MATHEMATICS = {
    "streams",
    "step",
    "schedule",
    "regularization",
    "edit_losses",
    "solver",
    "noise_correction",
    "enhancement",
}
NOT_MATHEMATICS = {"lightning", "transformers", "torchvision", "PIL", "safetensors", "pathlib", "os", "io", "json"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def room(path: Path) -> str:
    """`solver` for renoise/solver.py, `zoo` for tiny_models/data.py, `plugins` for a plugin."""
    first, second = path.relative_to(REPOSITORY).parts[:2]
    return first if first == "plugins" else Path(second).stem


def imports(path: Path) -> Iterator[str]:
    """Full dotted names of everything that a file imports, inside functions too."""
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def rooms_entered(path: Path) -> set[str]:
    """The rooms of `renoise` that a file imports from, other than its own."""
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "renoise" and len(parts) > 1} - {room(path)}


def test_every_room_is_listed_and_every_listed_room_exists() -> None:
    there = {room(path) for path in MODULES} - {"__init__", "plugins"}
    assert len(ROOMS) == len(set(ROOMS))
    assert there == set(ROOMS)


@each_module
def test_a_room_imports_only_from_rooms_below_it(path: Path) -> None:
    if room(path) == "__init__":
        assert rooms_entered(path) == {"saved_inversions"}, "what is offered as `renoise.…`, and nothing else"
        return
    ceiling = ROOMS.index("editing") + 1 if room(path) == "plugins" else ROOMS.index(room(path))
    assert rooms_entered(path) <= set(ROOMS[:ceiling])


@each_module
def test_renoise_finds_plugins_by_their_entry_points_alone(path: Path) -> None:
    if room(path) != "plugins":
        assert {name.split(".")[0] for name in imports(path)}.isdisjoint({"plugins", "renoise_plugins"})


@each_module
def test_the_mathematics_knows_nothing_of_lightning_files_or_prompts(path: Path) -> None:
    if room(path) in MATHEMATICS:
        assert {name.split(".")[0] for name in imports(path)}.isdisjoint(NOT_MATHEMATICS)
        assert "prompt" not in path.read_text(encoding="utf-8")


@each_module
def test_nothing_unpickles(path: Path) -> None:
    names = set(imports(path))
    assert {name.split(".")[0] for name in names}.isdisjoint(PICKLES)
    assert "torch.load" not in names
    assert "torch.load(" not in path.read_text(encoding="utf-8")


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    """Public names without a docstring, in a module or a class."""
    if ast.get_docstring(node) is None:
        yield name
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{name}.{child.name}")
            elif ast.get_docstring(child) is None:
                yield f"{name}.{child.name}"


@each_module
def test_every_public_name_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(undocumented(tree, path.stem))


def words(document: str) -> Iterator[str]:
    """Every word of the commands in a document's bash blocks, `--name=value` as two, without what `>` writes to."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r">+\s*\S+", "", line)
            for word in shlex.split(command, comments=True):
                yield from word.split("=")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_name_files_that_exist(document: str) -> None:
    written = {".venv", "out", "tiny_models"}  # by the commands themselves
    kept = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - written
    seen = list(words(document))
    paths = [word.split("::")[0] for word in seen if word.split("/")[0] in kept or re.search(r"^[\w./]+\.py$", word)]
    modules = [word for word in seen if word.startswith("renoise.")]
    assert paths, "no command names a file: are the blocks still marked as bash?"
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []
