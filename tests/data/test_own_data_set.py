"""The example of docs/data_sets.md: a data set in a module of the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renoise.outputs.manifest import Manifest

GUIDE = Path(__file__).resolve().parents[2] / "docs/data_sets.md"


def section(title: str) -> str:
    """Returns the text of a section of the guide."""
    (text,) = re.findall(rf"^## {title}\n(.*?)^## ", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.fixture
def class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Writes the example's module to a folder of modules, and returns the class path that its command uses."""
    text = section("A data set of your own")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (class_path,) = re.findall(r"```bash\n.* --data (\S+) .*```", text, re.DOTALL)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{class_path.split('.')[0]}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return str(class_path)


def test_the_example_runs_by_its_class_path_with_its_own_option(
    class_path: str, tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root = pictures(tmp_path / "photos", "cat.jpg", "dog.jpg", "other.png")
    (root / "cat.txt").write_text("a cat on a sofa\n")
    options = (f"--data={class_path}", f"--data.root={root}", "--data.suffix=.jpg", "--data.resolution=32")
    run = predict(root, tmp_path / "out", *options, "--data.prompt=a photo")
    assert run.status == 0, run.err
    rows = {row["file_name"]: (row["status"], row["prompt"]) for row in Manifest(tmp_path / "out").read()}
    assert rows == {"cat.jpg": ("ok", "a cat on a sofa"), "dog.jpg": ("ok", "a photo")}
