"""Hook of mkdocs: shows the notebooks of `docs/notebooks/`, with their saved outputs, as pages of the site."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from links import REPOSITORY, repository_url
from mkdocs.structure.files import File

NOTEBOOKS = REPOSITORY / "docs/notebooks"
COLAB = "https://colab.research.google.com/github"


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for each notebook, and a file for each of its pictures."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        page, pictures = page_of(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, and its pictures by their file names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/jpeg" in data:
                name = f"{path.stem}-{len(pictures) + 1}.jpg"
                pictures[name] = base64.b64decode(data["image/jpeg"])
                parts.append(f"![output of the cell above]({name})")
            else:
                text = "".join(output.get("text") or data.get("text/plain", []))
                parts.append(f"```text\n{text.rstrip()}\n```")
    colab = f"{COLAB}/{repository_url().removeprefix('https://github.com/')}/blob/main/docs/notebooks/{path.name}"
    parts.insert(1, f'[Open in Colab]({colab}) · <a href="{path.name}" download>Download the notebook</a>')
    return "\n\n".join(parts) + "\n", pictures
