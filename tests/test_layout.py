"""The rules of the code: which package imports which, the public names, docstrings and the size of files."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import renoise

REPOSITORY = Path(__file__).resolve().parents[1]
API_SURFACE = json.loads((REPOSITORY / "tests/api_surface.json").read_text(encoding="utf-8"))

BASICS = {"errors", "utils"}
CORE = BASICS | {"core"}
MODELS = CORE | {"models"}
INVERSION = MODELS | {"inversion"}
EDITING = INVERSION | {"editing"}
RUNS = EDITING | {"data", "metrics", "outputs", "presets", "api"}
ALLOWED = {
    "errors": set(),
    "utils": {"errors"},
    "core": {"utils"},
    "models": CORE,
    "inversion": MODELS,
    "editing": INVERSION,
    "presets": EDITING,
    "data": INVERSION,
    "metrics": INVERSION,
    "outputs": INVERSION | {"data", "metrics"},
    "api": EDITING | {"data", "outputs", "presets"},
    "config_file": {"errors", "utils"},
    "module": RUNS,
    "writer": RUNS | {"module"},
    "help": set(),
    "parser": RUNS | {"help"},
    "progress_bar": set(),
    "predict": RUNS | {"module", "writer", "parser", "help", "progress_bar", "config_file"},
    "one_image": RUNS,
    "demo": RUNS | {"one_image"},
    "evaluation": RUNS | {"module", "writer", "predict"},
    "cli": {"errors", "utils", "models", "presets", "predict", "one_image", "evaluation", "demo"},
    "__main__": {"cli"},
}
"""Each package or module of `renoise`, and those that it may import."""
OUTSIDE = {
    "plugins": {"renoise_plugins"},
    "tiny_models": {"tiny_models"},
    "benchmarks": {"benchmarks", "renoise_plugins", "tiny_models"},
}
"""Code outside of `renoise`, and what of the repository it may import besides the public names."""

NOT_IN_CORE = {"io", "json", "lightning", "os", "pathlib", "PIL", "safetensors", "torchvision", "transformers"}
SLOW = {"diffusers", "lightning", "numpy", "PIL", "torch", "transformers"}
ONLY_TO_RUN = {"accelerate", "datasets", "diffusers", "pandas", "peft", "scipy", "torchvision", "transformers"}
"""Libraries that only a run needs, or not even a run: help and mistakes must not wait for them."""
PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def files_of(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def each_file(*folders: str) -> pytest.MarkDecorator:
    """Runs a test once for each Python file of these folders."""
    return pytest.mark.parametrize("path", files_of(*folders), ids=lambda path: path.relative_to(REPOSITORY).as_posix())


def module_name(path: Path) -> str:
    """`renoise.core.step` for renoise/core/step.py, `renoise.core` for renoise/core/__init__.py."""
    folder, *rest = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(["renoise_plugins" if folder == "plugins" else folder, *rest]).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Full dotted names of everything that a file imports, inside functions too."""
    name = module_name(path).split(".")
    package = name if path.stem == "__init__" else name[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def layer(path: Path) -> str:
    """`core` for renoise/core/step.py, `cli` for renoise/cli.py."""
    return path.relative_to(REPOSITORY / "renoise").parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """The packages and modules of `renoise` that a file imports, without its own."""
    names = [name.split(".") for name in imports(path)]
    return {parts[1] for parts in names if parts[0] == "renoise" and len(parts) > 1} - {layer(path)}


def test_the_table_of_packages_is_complete() -> None:
    assert {layer(path) for path in files_of("renoise")} - {"__init__"} == set(ALLOWED)


def test_the_table_of_packages_has_no_cycle() -> None:
    TopologicalSorter(ALLOWED).prepare()


@each_file("renoise")
def test_a_package_imports_only_packages_below_it(path: Path) -> None:
    if layer(path) != "__init__":
        assert imported_layers(path) <= ALLOWED[layer(path)]


def test_no_modules_import_each_other_in_a_cycle() -> None:
    paths = {module_name(path): path for path in files_of("renoise", *OUTSIDE)}
    graph = {
        module: {name if name in paths else name.rpartition(".")[0] for name in imports(path)} & paths.keys() - {module}
        for module, path in paths.items()
        if module != "renoise"  # its imports are lazy
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports form a cycle: {' ← '.join(error.args[1])}")


@each_file("renoise")
def test_nothing_in_renoise_imports_plugins_benchmarks_or_tiny_models(path: Path) -> None:
    assert imported_roots(path).isdisjoint({*OUTSIDE, "renoise_plugins", "tests"})


@each_file(*OUTSIDE)
def test_code_outside_renoise_imports_only_public_names(path: Path) -> None:
    public = {f"renoise.{name}" for name in API_SURFACE}
    assert {name for name in imports(path) if name.startswith("renoise.")} <= public
    allowed = OUTSIDE[path.relative_to(REPOSITORY).parts[0]]
    assert imported_roots(path) & {*OUTSIDE, "renoise_plugins", "tests"} <= allowed


@each_file("renoise/core")
def test_core_imports_neither_lightning_nor_files_nor_prompts(path: Path) -> None:
    assert imported_roots(path).isdisjoint(NOT_IN_CORE)
    assert "prompt" not in path.read_text(encoding="utf-8").lower()


@each_file("renoise", *OUTSIDE)
def test_nothing_unpickles(path: Path) -> None:
    assert imported_roots(path).isdisjoint(PICKLES)
    assert "torch.load" not in set(imports(path))
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


@each_file("renoise", *OUTSIDE)
def test_every_public_function_and_class_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(undocumented(tree, path.stem))


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@each_file("renoise", *OUTSIDE)
def test_no_file_is_longer_than_250_lines(path: Path) -> None:
    assert length(path) <= 250


def test_half_of_the_files_have_at_most_120_lines() -> None:
    assert statistics.median(map(length, files_of("renoise", "plugins"))) <= 120


def test_the_public_names_are_those_of_api_surface_json() -> None:
    assert sorted(renoise.__all__) == API_SURFACE, "if the change is intended, write it to tests/api_surface.json"


@pytest.mark.parametrize("name", API_SURFACE)
def test_every_public_name_has_an_example(name: str) -> None:
    value = getattr(renoise, name)
    if callable(value):
        assert "Example:" in (value.__doc__ or "")


def imported_by(code: str, *arguments: str) -> set[str]:
    """The libraries that a new process has imported at the end of `code`."""
    end = "finally: print('imported', *{name.split('.')[0] for name in sys.modules})"
    code = f"import sys\ntry: {code}\n{end}"
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    return set(result.stdout.rpartition("imported")[2].split())


def test_importing_renoise_imports_no_slow_library() -> None:
    imported = imported_by("import renoise")
    assert "renoise" in imported
    assert SLOW.isdisjoint(imported)


@pytest.mark.parametrize("arguments", [["--help"], ["presets"], ["predict", "--preset", "none"], ["fit"], []])
def test_what_needs_no_options_imports_no_slow_library(arguments: list[str]) -> None:
    imported = imported_by("from renoise.cli import main; main()", *arguments)
    assert "renoise" in imported
    assert SLOW.isdisjoint(imported)


def test_a_wrong_option_is_found_without_the_libraries_that_a_run_needs() -> None:
    imported = imported_by("from renoise.cli import main; main()", "predict", "--modle.x", "1")
    assert "lightning" in imported
    assert ONLY_TO_RUN.isdisjoint(imported)
