"""Every relative link of the documents, and every file that a documented command names, exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(<?([^)\s>]+)|(?:src|href)=\"([^\"]+)\"")
"""The target of a Markdown link or image, or of an HTML one."""
WRITTEN = {".venv", "build", "dist", "out", "trained"}
"""Folders that the commands themselves write."""

each_document = pytest.mark.parametrize("document", DOCUMENTS)


def read(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a Markdown text."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def words(document: str) -> Iterator[str]:
    """Every word of the commands in a document's bash blocks, `--name=value` as two, without what `>` writes to."""
    for block in re.findall(r"^```bash\n(.*?)^```$", read(document), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for word in shlex.split(re.sub(r">+\s*\S+", "", line), comments=True):
                yield from word.split("=")


@each_document
def test_every_relative_link_leads_to_a_file_and_a_heading(document: str) -> None:
    broken = []
    for target in (first or second for first, second in LINK.findall(read(document))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):  # https:, mailto:
            continue
        linked = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        missing_heading = anchor and linked.suffix == ".md" and anchor not in headings(linked.read_text("utf-8"))
        if not linked.exists() or missing_heading:
            broken.append(target)
    assert not broken


@each_document
def test_documented_commands_name_files_that_exist(document: str) -> None:
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - WRITTEN
    all_words = list(words(document))
    paths = [word.split("::")[0] for word in all_words if "/" in word and word.split("/")[0] in folders]
    paths += [word for word in all_words if re.fullmatch(r"[\w./]+\.py", word)]
    modules = [word for word in all_words if re.match(r"(renoise|benchmarks|tiny_models)\.\w", word)]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


def test_the_commands_of_the_documents_are_found() -> None:
    assert any(word.startswith("tests/") for word in words("CONTRIBUTING.md")), "are the blocks still marked as bash?"
