from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import results
from benchmarks.results import RUNS, SuiteRun, block, copy_picture, main
from benchmarks.scene_folder import main as write_scene_folder
from benchmarks.scene_metrics import StrictTargetAnimal, TargetAnimal, TrueEditPSNR
from benchmarks.shared.pages import check_block
from benchmarks.shared.scenes import images_of, swapped, unseen_scenes
from renoise import EditComparison, ImageFolderDataModule, InputError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scene_folder(folder, images=2)
    return folder


def test_the_scenes_are_a_data_set_with_texts_masks_and_true_edits(scene_folder: Path) -> None:
    data = ImageFolderDataModule(scene_folder / "images", resolution=64)
    data.setup("predict")
    first, second = unseen_scenes(2)
    assert [record.prompt for record in data.records] == [first.caption, second.caption]
    truth = images_of(swapped([first, second]))
    for record, edit in zip(data.records, truth, strict=True):
        mask = data.mask(record.file_name)
        assert mask is not None
        background = data.original(record.file_name)[:, ~mask]
        torch.testing.assert_close(background, edit[:, ~mask], rtol=0, atol=0.02)


def test_the_true_edit_has_the_animal_asked_for_and_the_original_has_not(
    scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    scenes = unseen_scenes(2)
    targets = swapped(scenes)
    prompts, names = [target.caption for target in targets], ["0000.png", "0001.png"]
    for edits, expected in ((images_of(targets), [100.0, 100.0]), (images_of(scenes), [0.0, 0.0])):
        comparison = EditComparison(images_of(scenes), edits, [], prompts, names=names)
        assert TargetAnimal()(comparison).tolist() == expected
        assert StrictTargetAnimal()(comparison).tolist() == expected
        psnrs = TrueEditPSNR(str(scene_folder / "true_edits"))(comparison)
        assert psnrs.isinf().all() if expected[0] else (psnrs < 30).all()


def test_every_run_has_a_place_in_the_page() -> None:
    for name, run in RUNS.items():
        check_block(REPOSITORY / "docs/results.md", name)
        for picture in run.pictures.values():
            assert (REPOSITORY / "docs" / picture).exists()


def test_headings_of_tables_become_captions_in_the_page() -> None:
    assert block("## Edits\n\n| a |\n\n## More\n") == "*Edits*\n\n| a |\n\n*More*\n"


def test_a_wide_picture_is_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (2400, 100), "teal").save(tmp_path / "a.png")
    copy_picture(tmp_path / "a.png", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.size == (1200, 50)


def test_a_suite_is_run_once_and_its_table_goes_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tmp_path / "small.yaml"
    suite.write_text(json.dumps({"methods": {"one": {"model": {"num_inference_steps": 2, "inversion": "DDIM"}}}}))
    run = SuiteRun(str(suite), "sd14", metrics=["psnr"], edits=True)
    monkeypatch.setattr(results, "RUNS", {"small": run})
    page: Any = tmp_path / "results.md"
    page.write_text("<!-- begin small -->\n<!-- end small -->\n")
    main(["small"], images=1, output=tmp_path / "out", page=page)
    lines = page.read_text().splitlines()
    assert lines[1:3] == ["*Reconstructions*", ""]
    edits = lines[lines.index("*Edits*") + 2]
    assert "strict judge (%)" in edits
    assert "CLIP score, whole" in edits
    assert "PSNR to the true edit (dB)" in edits


def test_an_unknown_run_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="runs: there is no 'table 3'; there are table 1, table 2, calls"):
        main(["table 3"])
