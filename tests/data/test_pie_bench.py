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

from renoise.data import PIEBenchDataModule, UnreadableImageError, read_image
from renoise.data.pie_bench import decode_mask
from renoise.data.resizing import crop_box
from renoise.errors import InputError, InputWarning
from renoise.outputs.manifest import Manifest

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
    """Returns the run-length code of a mask, pixel by pixel."""
    runs: list[int] = []
    for position, value in enumerate(mask.ravel().tolist()):
        if value and runs and runs[-2] + runs[-1] == position:
            runs[-1] += 1
        elif value:
            runs += [position, 1]
    return runs


def bench(root: Path, **entries: Any) -> Path:
    """Writes PIE-Bench's folders. The pictures of the entries are 48 × 32."""
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
def test_decode_mask_inverts_the_run_length_code(mask: np.ndarray) -> None:
    runs = runs_of(mask)
    assert np.array_equal(decode_mask(runs, *mask.shape, with_border=False).numpy(), mask)
    bordered = mask.copy()
    bordered[[0, -1]] = bordered[:, [0, -1]] = True
    assert np.array_equal(decode_mask(runs, *mask.shape).numpy(), bordered)


def test_a_run_beyond_the_image_is_cut_off_and_the_default_size_is_512() -> None:
    assert decode_mask([3, 99], 2, 3, with_border=False).tolist() == [[False] * 3, [True] * 3]
    assert decode_mask([]).shape == (512, 512)


@pytest.mark.parametrize("runs", [None, "12", [1], [1, -1], [-1, 1], [1, "2"], [1.0, 2]])
def test_a_mask_that_is_not_a_list_of_runs_is_an_error(runs: Any) -> None:
    with pytest.raises(InputError, match="a mask must be a list of starts and lengths in turn"):
        decode_mask(runs)


def test_prompts_lose_their_brackets_and_other_columns_pass_through(tmp_path: Path) -> None:
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
def test_a_mask_is_cropped_and_resized_like_its_image(
    tmp_path: Path, resize: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[4:20, 16:30] = True
    entry = ENTRY | {"mask": runs_of(mask)}
    data = ready(bench(tmp_path / "bench", a=entry), resolution=96, resize=resize)
    mask[[0, -1]] = mask[:, [0, -1]] = True
    visible = torch.from_numpy(expected(mask).astype(np.float32))[None, None]
    expected_mask = torch.nn.functional.interpolate(visible, size=(96, 96), mode="nearest")[0, 0].bool()
    found = data.mask(ENTRY["image_path"])
    assert found.dtype == torch.bool
    assert (found == expected_mask).float().mean() > 0.98  # except half a pixel of the filter along the edges


def nearest_pixels(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes a mask: each pixel gets the value of the pixel that contains its center."""
    height, width = size
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
    return mask[np.ix_(rows, columns)]


@pytest.mark.parametrize("resolution", [24, 40, 80])
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad", "bucket"])
def test_a_mask_has_the_value_of_the_nearest_pixel_at_every_target_size(
    tmp_path: Path, resize: str, resolution: int
) -> None:
    mask = np.random.default_rng(0).random((33, 51)) < 0.5  # with odd sides, no center is between two pixels
    root = bench(tmp_path / "bench", a=ENTRY | {"mask": runs_of(mask)})
    Image.new("RGB", (51, 33)).save(root / "annotation_images" / ENTRY["image_path"])
    data = ready(root, resolution=resolution, resize=resize)
    found = data.mask(ENTRY["image_path"], with_border=False).numpy()
    assert found.shape == data.original(ENTRY["image_path"]).shape[1:]
    left, top, right, bottom = crop_box(33, 51, found.shape, "crop" if resize == "bucket" else resize)
    expected, inner = np.zeros_like(found), found.shape[0]
    if resize == "pad":
        inner = round(resolution * 33 / 51)
    above = round((found.shape[0] - inner) / 2)
    expected[above : above + inner] = nearest_pixels(mask[top:bottom, left:right], (inner, found.shape[1]))
    assert np.array_equal(found, expected)


def test_a_mask_at_the_default_resolution_is_the_decoded_mask(tmp_path: Path) -> None:
    root = bench(tmp_path / "bench", a=ENTRY | {"mask": [1000, 70000]})
    Image.new("RGB", (512, 512)).save(root / "annotation_images" / ENTRY["image_path"])
    assert torch.equal(ready(root).mask(ENTRY["image_path"]), decode_mask([1000, 70000]))


def test_an_error_about_a_mask_names_its_image(tmp_path: Path) -> None:
    data = ready(bench(tmp_path / "bench", a=ENTRY | {"mask": [1]}))
    with pytest.raises(InputError, match=r"111000000000\.png: a mask must be"):
        data.mask(ENTRY["image_path"])
    with pytest.raises(KeyError):
        data.mask("another.png")
    (tmp_path / "bench/annotation_images" / ENTRY["image_path"]).write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError, match=r"111000000000\.png: not an image that can be read"):
        data.mask(ENTRY["image_path"])
    (tmp_path / "bench/annotation_images" / ENTRY["image_path"]).unlink()
    with pytest.raises(UnreadableImageError, match=r"111000000000\.png: does not exist"):
        ready(tmp_path / "bench").mask(ENTRY["image_path"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_contain_the_images_of_the_folder(tmp_path: Path, num_workers: int) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    (batch,) = ready(root, resolution=16, num_workers=num_workers).predict_dataloader()
    assert torch.equal(batch.images[0], read_image(root / "annotation_images" / ENTRY["image_path"], 16).pixels)


def test_broken_and_repeated_entries_are_skipped_with_a_warning(tmp_path: Path) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    entries = {"a": ENTRY, "b": 7, "c": {"image_path": 8}, "d": ENTRY | {"image_path": f"./{ENTRY['image_path']}"}}
    (root / "mapping_file.json").write_text(json.dumps(entries))
    with pytest.warns(InputWarning) as caught:
        (record,) = ready(root).records
    assert record.extra["id"] == "a"
    problem = 'is not an object with an "image_path"'
    assert [str(each.message) for each in caught] == [
        f"{root}/mapping_file.json, b {problem}; it is skipped",
        f"{root}/mapping_file.json, c {problem}; it is skipped",
        f"{root}/mapping_file.json, d is skipped: {ENTRY['image_path']} is already in {root}/mapping_file.json, a",
    ]


def test_an_image_that_is_not_listed_and_a_key_that_occurs_twice_are_warned_of(tmp_path: Path) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    Image.new("RGB", (8, 8)).save(root / "annotation_images/other.png")
    path, entry = root / "mapping_file.json", json.dumps(ENTRY)
    path.write_text(f'{{"a": {entry}, "a": {entry}}}')
    with pytest.warns(InputWarning) as caught:
        assert len(ready(root).records) == 1
    assert [str(each.message) for each in caught] == [
        f"{path}: keys occur twice in an object, and the last one counts (1): a",
        f"{path}: images in {root}/annotation_images are left out because they are not listed (1): other.png",
    ]


def test_entries_that_json_cannot_represent_have_an_error(tmp_path: Path) -> None:
    odd = {"b": {"blended_word": "\ud800", "image_path": "b.png"}, "c": {"mask": [float("nan")], "image_path": "c.png"}}
    root = bench(tmp_path / "bench", a=ENTRY, **{key: ENTRY | columns for key, columns in odd.items()})
    assert [(each.error or "").split(" (")[0] for each in ready(root).records] == [
        "",
        "the row is not valid Unicode",
        "the row contains NaN or infinity, which JSON cannot represent",
    ]


def test_the_key_is_the_id_even_if_the_entry_has_an_id_column(tmp_path: Path) -> None:
    (record,) = ready(bench(tmp_path / "bench", **{"007": ENTRY | {"id": 3}})).records
    assert record.extra["id"] == "007"


def test_a_missing_folder_of_images_is_an_error(tmp_path: Path) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    with pytest.raises(InputError, match=r"data\.images: .*bench/photos does not exist"):
        ready(root, images="photos")


def test_it_replaces_the_data_module_of_a_config(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    root, out = bench(tmp_path / "bench", a=ENTRY), tmp_path / "out"
    (root / "mapping_file.json").rename(root / "other.json")
    small = (
        "--model.num_inference_steps=2",
        "--data.resolution=32",
        "--data.batch_size=2",
        "--trainer.accelerator=cpu",
    )
    named = ("--data=PIEBenchDataModule", f"--data.root={root}", "--data.mapping_file=other.json")
    run = run_cli(
        *("predict", "--config", "configs/quickstart.yaml", *named, *small),
        *(f"--trainer.default_root_dir={out}", "--trainer.enable_progress_bar=false"),
    )
    assert run.status == 0, run.err
    (row,) = Manifest(out).read()
    assert (row["status"], row["id"], list(row["edits"])) == ("ok", "a", ["PromptSwap"])


def test_a_missing_image_fails_and_the_run_continues(tmp_path: Path, predict: Callable[..., Any]) -> None:
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
        ("[]", "must be an object with one entry per image"),
        ("{}", "must be an object with one entry per image"),
        ('{"a": {"original_prompt": "x"}}', r'mapping_file\.json, a is not an object with an "image_path"'),
    ],
)
def test_a_broken_mapping_file_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    root = bench(tmp_path / "bench", a=ENTRY)
    (root / "mapping_file.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        ready(root)


def test_entries_with_wrong_prompts_or_paths_have_an_error(tmp_path: Path) -> None:
    entries = {"a": ENTRY | {"editing_prompt": 3}, "b": ENTRY | {"image_path": "../out.png"}}
    root = bench(tmp_path / "bench", **entries)
    errors = [each.error or "" for each in ready(root).records]
    assert errors[0].startswith("edit_text must be a string or null, got 3")
    assert errors[1].startswith("its path leads out of data.root")
