from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from renoise.outputs.completeness import is_complete
from renoise.outputs.files import INVERSION, RECONSTRUCTION, OutputFiles, SeparateFiles, Shards, place_of
from renoise.outputs.images import to_png
from renoise.outputs.inversion_file import save_inversion

PNG = to_png(Image.new("RGB", (8, 8), "teal"))
FILES = {INVERSION: save_inversion({"latent": torch.zeros(4, 2, 2), "noise": torch.zeros(3, 4, 2, 2)}, {"prompt": "a"})}
FILES |= {RECONSTRUCTION: PNG, "PromptSwap": PNG}
ROW: dict[str, Any] = {"file_name": "a.png", "status": "ok", "error": None, "prompt": "", "edit_prompt": "b"}
ROW |= {"edits": {"PromptSwap": "ok", "Other": "the image has no edit_text"}}


def written(folder: Path, in_shards: bool, files: dict[str, bytes] = FILES) -> dict[str, Any]:
    """Returns the row of an image whose files are in `folder`."""
    output: OutputFiles = Shards(folder, 0, 10) if in_shards else SeparateFiles(folder)
    row = ROW | output.add(ROW, files)
    output.close()
    return row


@pytest.mark.parametrize("in_shards", [False, True])
def test_whole_files_are_complete(tmp_path: Path, in_shards: bool) -> None:
    assert is_complete(tmp_path, written(tmp_path, in_shards))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, -13, -1])
def test_a_file_that_is_cut_off_anywhere_is_not_complete(
    tmp_path: Path, kind: str, in_shards: bool, length: int
) -> None:
    row = written(tmp_path, in_shards)
    place = place_of(tmp_path, row, kind)
    assert place is not None
    end = length if length >= 0 else len(FILES[kind]) + length
    os.truncate(place.path, place.start + end)
    assert not is_complete(tmp_path, row)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("content", [b"", b"no picture", bytes(len(PNG)), PNG[:-1], PNG[:8], b"\xff" * 100])
def test_a_file_with_other_content_is_not_complete(tmp_path: Path, kind: str, in_shards: bool, content: bytes) -> None:
    assert not is_complete(tmp_path, written(tmp_path, in_shards, FILES | {kind: content}))


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"a": 1}', b'{"a": {"data_offsets": []}}', b"[" * 100_000])
def test_an_inversion_whose_header_is_of_another_kind_is_not_complete(tmp_path: Path, header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header
    assert not is_complete(tmp_path, written(tmp_path, False, FILES | {INVERSION: content}))


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_file_and_a_folder_or_a_pipe_in_its_place_are_not_complete(tmp_path: Path, kind: str) -> None:
    row = written(tmp_path, in_shards=False)
    place = place_of(tmp_path, row, kind)
    assert place is not None
    for replace in (lambda path: None, os.mkdir, lambda path: (os.rmdir(path), os.mkfifo(path))):
        place.path.unlink() if place.path.is_file() else None
        replace(place.path)
        assert not is_complete(tmp_path, row)


def test_a_missing_archive_is_not_complete(tmp_path: Path) -> None:
    row = written(tmp_path, in_shards=True)
    (tmp_path / row["inversion"]).unlink()
    assert not is_complete(tmp_path, row)


def test_a_failed_image_needs_no_files_and_an_incomplete_row_is_none(tmp_path: Path) -> None:
    failed = ROW | {"status": "failed", "error": "is empty", "inversion": None, "edits": {}}
    assert is_complete(tmp_path, failed)
    assert not is_complete(tmp_path, {"file_name": "a.png"})


def test_the_check_of_a_hundred_thousand_images_takes_seconds(tmp_path: Path) -> None:
    row = written(tmp_path, in_shards=False)
    started = time.process_time()
    for _ in range(500):
        assert is_complete(tmp_path, row)
    assert (time.process_time() - started) * 200 < 60
