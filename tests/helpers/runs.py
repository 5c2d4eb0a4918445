"""What tests of whole runs share: checks of a finished folder, a free port, a full disk, and another run."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file

from renoise.outputs.manifest import Manifest


def times(folder: Path, names: list[str]) -> dict[str, int]:
    """Returns when each file of these images was last changed."""
    files = [path for name in names for path in folder.rglob(f"{name}.*")]
    return {str(path): path.stat().st_mtime_ns for path in files}


def assert_whole(folder: Path, expected: list[str]) -> None:
    """Asserts that every image has one row and all its files, and that every file can be opened."""
    rows = Manifest(folder).read()
    assert sorted(row["file_name"] for row in rows) == sorted(expected)
    for row in rows:
        assert row["status"] == "ok"
        assert load_file(folder / row["inversion"])["latent"].isfinite().all()
        with Image.open(folder / "reconstructions" / f"{row['file_name']}.png") as picture:
            picture.load()
    assert list(folder.rglob("*.tmp")) == []
    assert json.loads((folder / "summary.json").read_text())["images"] == len(expected)
    with Image.open(folder / "contact_sheet.png") as sheet:
        sheet.load()


def free_port() -> int:
    """Returns an unused port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Limits the size of files in bytes: a longer write stops half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


HOLDER = """
import sys
from pathlib import Path
from renoise.utils.run_lock import lock_folder
lock_folder(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Locks a folder in another process, until the block or the process ends."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()
