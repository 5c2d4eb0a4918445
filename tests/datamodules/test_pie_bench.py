from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from renoise.datamodules import PIEBenchDataModule
from renoise.datamodules.pie_bench import decode_mask
from renoise.errors import InputError
from renoise.manifest import Manifest

ENTRY = {
    "image_path": "1_change_object_80/1_artificial/111000000000.png",
    "original_prompt": "a slanted [mountain] bicycle",
    "editing_prompt": "a slanted [rusty mountain] bicycle",
    "editing_instruction": "make it [rusty]",
    "editing_type_id": "1",
    "blended_word": "bicycle bicycle",
    "mask": [3, 2],
}


def runs_of(mask: np.ndarray) -> list[int]:
    """PIE-Bench's own coding of a mask, pixel by pixel."""
    runs: list[int] = []
    for position, value in enumerate(mask.ravel().tolist()):
        if value and runs and runs[-2] + runs[-1] == position:
            runs[-1] += 1
        elif value:
            runs += [position, 1]
    return runs


def bench(root: Path, **entries: Any) -> Path:
    """PIE-Bench's folders; the pictures that entries name are 48 x 32."""
    root.mkdir(parents=True)
    for entry in entries.values():
        path = root / "annotation_images" / entry["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 32), "teal").save(path)
    (root / "mapping_file.json").write_text(json.dumps(entries))
    return root


def ready(root: Path, **options: Any) -> PIEBenchDataModule:
    data = PIEBenchDataModule(root, **options)
    data.setup("predict")
    return data


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_mask_comes_back_from_its_runs(mask: np.ndarray) -> None:
    runs = runs_of(mask)
    assert np.array_equal(decode_mask(runs, *mask.shape, with_border=False).numpy(), mask)
    bordered = mask.copy()
    bordered[[0, -1]] = bordered[:, [0, -1]] = True
    assert np.array_equal(decode_mask(runs, *mask.shape).numpy(), bordered)


def test_a_run_beyond_the_image_is_cut_off_and_masks_are_as_large_as_the_benchs_images() -> None:
    assert decode_mask([3, 99], 2, 3, with_border=False).tolist() == [[False] * 3, [True] * 3]
    assert decode_mask([]).shape == (512, 512)


@pytest.mark.parametrize("runs", [None, "12", [1], [1, -1], [-1, 1], [1, "2"], [1.0, 2]])
def test_what_are_no_runs_is_said(runs: Any) -> None:
    with pytest.raises(InputError, match="a mask must be a list of starts and lengths in turn"):
        decode_mask(runs)


def test_prompts_lose_their_brackets_and_all_else_passes_through(tmp_path: Path) -> None:
    (record,) = ready(bench(tmp_path / "bench", **{"111000000000": ENTRY})).records
    assert record.file_name == ENTRY["image_path"]
    assert record.prompt == "a slanted mountain bicycle"
    assert record.edit_prompt == "a slanted rusty mountain bicycle"
    assert record.error is None
    assert record.extra == {"id": "111000000000"} | {name: ENTRY[name] for name in list(ENTRY)[3:]}


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("stretch", lambda mask: mask),
        ("crop", lambda mask: mask[:, 8:40]),
        ("pad", lambda mask: np.pad(mask, ((8, 8), (0, 0)))),
    ],
)
def test_a_mask_lies_in_the_frame_as_its_image_does(
    tmp_path: Path, resize: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[4:20, 16:30] = True
    entry = ENTRY | {"mask": runs_of(mask)}
    data = ready(bench(tmp_path / "bench", a=entry), resolution=96, resize=resize)
    mask[[0, -1]] = mask[:, [0, -1]] = True
    shown = torch.from_numpy(expected(mask).astype(np.float32))[None, None]
    wanted = torch.nn.functional.interpolate(shown, size=(96, 96), mode="nearest")[0, 0].bool()
    found = data.mask(ENTRY["image_path"])
    assert found.dtype == torch.bool
    assert (found == wanted).float().mean() > 0.98  # but for the filter's half pixel along the edges


def test_a_mask_that_cannot_be_names_its_image(tmp_path: Path) -> None:
    data = ready(bench(tmp_path / "bench", a=ENTRY | {"mask": [1]}))
    with pytest.raises(InputError, match=r"111000000000\.png: a mask must be"):
        data.mask(ENTRY["image_path"])
    with pytest.raises(KeyError):
        data.mask("another.png")


def test_images_that_are_missing_are_rows_and_stop_nothing(tmp_path: Path, predict: Callable[..., Any]) -> None:
    other = ENTRY | {"image_path": "0_random_140/0.png"}
    root = bench(tmp_path / "bench", a=ENTRY, b=other)
    (root / "annotation_images" / other["image_path"]).unlink()
    run = predict(root, tmp_path / "out", "--data=PIEBenchDataModule", f"--data.root={root}", "--data.resolution=32")
    assert run.status == 0, run.err
    rows = {row["file_name"]: row for row in Manifest(tmp_path / "out").read()}
    assert rows[other["image_path"]]["error"].startswith("does not exist (")
    good = rows[ENTRY["image_path"]]
    assert (good["status"], good["mask"], good["edit_prompt"]) == ("ok", [3, 2], "a slanted rusty mountain bicycle")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{broken", r"mapping_file\.json is not JSON"),
        ("[]", "must be an object of one entry per image"),
        ("{}", "must be an object of one entry per image"),
        ('{"a": {"original_prompt": "x"}}', r'mapping_file\.json, a is not an object with an "image_path"'),
    ],
)
def test_a_mapping_that_is_not_the_benchs_is_named(tmp_path: Path, content: str, problem: str) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    (root / "mapping_file.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        ready(root)


def test_entries_whose_prompts_are_no_texts_are_records_that_say_so(tmp_path: Path) -> None:
    entries = {"a": ENTRY | {"editing_prompt": 3}, "b": ENTRY | {"image_path": "../out.png"}}
    root = bench(tmp_path / "bench", **entries)
    errors = [each.error or "" for each in ready(root).records]
    assert errors[0].startswith("edit_text must be a string or null, not 3")
    assert errors[1].startswith("file_name leads out of data.root")
