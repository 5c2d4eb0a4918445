"""The documentation site: its navigation, its API pages, its links, and its notebooks. CI builds it and runs them."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
LARGEST_NOTEBOOK = 100_000
"""Bytes, outputs included."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def links() -> ModuleType:
    spec = importlib.util.spec_from_file_location("links", DOCS / "scripts/links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_one_page_of_the_api() -> None:
    listed = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: renoise\.(\w+)$", page.read_text(), re.M)
    ]
    public = json.loads((REPOSITORY / "tests/api_surface.json").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(set(public) - {"__version__"})


def test_every_shipped_editor_is_on_the_page_of_editors() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    listed = re.findall(r"^::: plugins\.[\w.]+\.(\w+)$", (DOCS / "api/editors.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(pyproject["project"]["entry-points"]["renoise.editors"])


def test_the_navigation_has_every_page_and_every_notebook() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages |= {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    configuration = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"^ +- .+: (\S+\.md)$", configuration, re.M)) == pages


def test_links_out_of_the_docs_lead_to_the_repository(links: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="api/page.md"))
    url = links.repository_url()
    text = (
        "[a](../../README.md#try-it) [b](../../plugins) [c](../edit.md) [d](../notebooks/01.ipynb) "
        "[e](https://x.org/y.md) [f](#g)"
    )
    assert links.on_page_markdown(text, page=page) == (
        f"[a]({url}/blob/main/README.md#try-it) [b]({url}/tree/main/plugins) [c](../edit.md) [d](../notebooks/01.md) "
        "[e](https://x.org/y.md) [f](#g)"
    )


def test_the_page_of_the_method_prints_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    page = (DOCS / "how_it_works.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(program, {})
    assert f"```text\n{capsys.readouterr().out}```" in page


@each_notebook
def test_a_notebook_installs_from_the_repository_in_colab(path: Path, links: ModuleType) -> None:
    source = "".join(cells(path, "code")[0]["source"])
    assert f"git clone --quiet --depth 1 {links.repository_url()} /content/renoise\n" in source
    assert "%pip install --quiet /content/renoise\n" in source


@each_notebook
def test_a_notebook_is_small_and_has_no_errors_and_paths_of_a_machine(path: Path) -> None:
    assert path.stat().st_size < LARGEST_NOTEBOOK
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    assert outputs, "save them: python docs/scripts/run_notebooks.py --save"
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert "/home/" not in json.dumps(outputs)


@each_notebook
def test_links_of_a_notebook_lead_to_files(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert targets
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []
