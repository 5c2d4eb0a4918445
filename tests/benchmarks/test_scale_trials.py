from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scale_trials import missing_or_broken


def test_missing_broken_and_unfinished_files_are_found(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    assert predict(pictures(tmp_path / "photos", "a.png", "b.png", "c.png"), out).status == 0
    assert missing_or_broken(out) == []
    (out / "inversions/a.png.safetensors").write_bytes(b"half")
    (out / "reconstructions/b.png.png").unlink()
    (out / "inversions/d.png.safetensors.tmp").touch()
    problems = missing_or_broken(out)
    assert len(problems) == 3
    assert [name in problem for name, problem in zip(("d.png", "a.png", "b.png"), problems, strict=True)] == [True] * 3
