"""Runs the notebooks of `docs/notebooks/` side by side, and fails where a cell raises.

python docs/scripts/run_notebooks.py           # in CI
python docs/scripts/run_notebooks.py --save    # also saves the outputs, which the site shows
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


async def main(save: bool) -> None:
    """Runs all notebooks, each in a kernel of its own."""
    await asyncio.gather(*(run(path, save) for path in sorted(NOTEBOOKS.glob("*.ipynb"))))


async def run(path: Path, save: bool) -> None:
    """Runs one notebook, and prints how long it took."""
    started = time.perf_counter()
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOKS)}}
    client = NotebookClient(notebook, timeout=120, startup_timeout=120, coalesce_streams=True, resources=folder)
    await client.async_execute()
    print(f"{path.name}: {time.perf_counter() - started:.1f} s")
    if save:
        _save(notebook, path)


def _save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes the notebook with what its cells print and show, without progress bars and times."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
            for output in cell.outputs:
                if "image/jpeg" in output.get("data", {}):
                    output.data.pop("image/png", None)  # the same picture, ten times as large
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Returns whether an output is what a progress bar leaves."""
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


if __name__ == "__main__":
    asyncio.run(main(save="--save" in sys.argv[1:]))
