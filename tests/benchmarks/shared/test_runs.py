from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.edit_costs import GUIDED
from benchmarks.shared import runs
from benchmarks.shared.runs import peak_memory, read_manifest, run, write_scenes


def test_scenes_are_written_with_their_captions_in_several_formats(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "scenes", 4, edit_texts=True, suffixes=(".png", ".jpg"))
    names = ["00000.png", "00001.jpg", "00002.png", "00003.jpg"]
    rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == names
    assert all(row["text"].endswith("background") for row in rows)
    assert len({row["edit_text"].split()[1] for row in rows}) == 4, "each edit has a word of its own"
    for name, kind in zip(names, ("PNG", "JPEG") * 2, strict=True):
        with Image.open(root / name) as image:
            assert image.format == kind
    assert not (write_scenes(tmp_path / "bare", 1, captions=False) / "metadata.jsonl").exists()


def test_rows_of_several_processes_are_read_without_unfinished_lines(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"file_name": "a.png"}\n{"file_na')
    (tmp_path / "manifest.1.jsonl").write_text('{"file_name": "b.png"}\n')
    assert sorted(read_manifest(tmp_path)) == ["a.png", "b.png"]


def test_peak_memory_is_that_of_a_run_that_edits_every_image_in_its_own_direction(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda: contextlib.nullcontext(tmp_path))
    weights = sum(path.stat().st_size for path in tiny_sd.rglob("*.safetensors"))
    assert peak_memory(str(tiny_sd), 2, GUIDED) > 2 * weights  # they are kept in float32
    rows = read_manifest(tmp_path / "out")
    assert [row["edits"] for row in rows.values()] == [{"Pix2PixZero": "ok"}] * 2
    assert ["thing0" in rows["00000.png"]["edit_prompt"], "thing1" in rows["00001.png"]["edit_prompt"]] == [True, True]


def test_a_run_that_fails_is_an_error_with_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train_like.py").write_text("import sys; sys.exit('error: no such model')")
    monkeypatch.setattr(runs, "CHECKOUT", tmp_path)
    with pytest.raises(RuntimeError, match="ended with status 1: error: no such model"):
        run(tmp_path, tmp_path, {})
