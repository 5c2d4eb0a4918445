"""The suite as a whole: its files, restarts, refusals, and images or networks that cannot be measured."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from renoise.errors import InputError
from renoise.evaluation.convergence import figures, increments, suite
from renoise.evaluation.convergence.jacobian import spectral_norms
from renoise.evaluation.convergence.suite import ConvergenceModule, evaluate_convergence
from renoise.predict import predict

SCENES = Path("data/images/scenes")
FIGURES = ["averages", "cosines", "increments", "jacobian", "toy"]


@pytest.fixture(scope="module", autouse=True)
def fewer_calls() -> Iterator[None]:
    """Few iterations and rough norms are enough here; test_figures.py has the figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "ITERATIONS", 2)
        patch.setattr(increments, "NORMS_AT", (0, 2))
        patch.setattr(increments, "spectral_norms", partial(spectral_norms, max_products=2))
        patch.setattr(increments, "REFERENCE_CALLS", 4)
        patch.setattr(figures, "save", lambda figure, path: path.with_suffix(".png").touch())
        yield


def write_photos(folder: Path) -> Path:
    """Fills a folder with three images."""
    folder.mkdir()
    for name in ("00-cat.png", "01-dog.png", "02-fox.png"):
        shutil.copy(SCENES / name, folder)
        os.utime(folder / name, (0, 0))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of a test's own."""
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images that no test changes."""
    return write_photos(tmp_path_factory.mktemp("shared") / "photos")


@pytest.fixture(scope="module")
def whole(shared_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run over them that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    evaluate_convergence(options(shared_photos), folder)
    return folder


def options(photos: Path, *more: str) -> list[str]:
    model = ["--model.checkpoint=data/models/tiny-sd", "--model.num_inference_steps=2", "--trainer.accelerator=cpu"]
    return [*model, f"--data.root={photos}", "--data.resolution=32", "--data.batch_size=2", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_writes_tables_figures_and_a_page(shared_photos: Path, whole: Path) -> None:
    files = contents(whole)
    expected = {f"{name}.png" for name in FIGURES}
    expected |= {"convergence.csv", "jacobian.csv", "convergence.md", "evaluation.json", "measurements.jsonl"}
    assert set(files) == expected
    table = pd.read_csv(whole / "convergence.csv")
    assert len(table) == 3 * 2 * 3
    assert set(table["image"]) == {path.name for path in shared_photos.iterdir()}
    assert (table["increment"] > 0).all()
    norms = pd.read_csv(whole / "jacobian.csv")
    assert len(norms) == 3 * 2 * 2
    assert (norms["norm"] > 0).all()
    page = (whole / "convergence.md").read_text()
    assert "3 images" in page
    assert "±" in page


def test_the_table_has_what_the_solver_records(shared_photos: Path, whole: Path, tmp_path: Path) -> None:
    table = pd.read_csv(whole / "convergence.csv")
    last = table[table["k"] == 2].groupby("image")["residual"].max()
    run = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--model.inversion.iterations=2"]
    predict(["predict", *options(shared_photos, *run)])
    rows = [json.loads(each) for each in (tmp_path / "run/manifest.jsonl").read_text().splitlines()]
    assert last.to_dict() == pytest.approx({row["file_name"]: row["residual"] for row in rows}, rel=1e-5)


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    shared_photos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[list[str]] = []
    measure = ConvergenceModule.measure

    def killed(module: ConvergenceModule, batch: Any, *more: Any) -> Any:
        if measured:
            raise KeyboardInterrupt
        measured.append([record.file_name for record in batch.records])
        return measure(module, batch, *more)

    monkeypatch.setattr(ConvergenceModule, "measure", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        evaluate_convergence(options(shared_photos), tmp_path / "killed")
    assert measured == [["00-cat.png", "01-dog.png"]]

    def counted(module: ConvergenceModule, batch: Any, *more: Any) -> Any:
        measured.append([record.file_name for record in batch.records])
        return measure(module, batch, *more)

    monkeypatch.setattr(ConvergenceModule, "measure", counted)
    evaluate_convergence(options(shared_photos), tmp_path / "killed")
    evaluate_convergence(options(shared_photos), tmp_path / "killed")
    assert measured == [["00-cat.png", "01-dog.png"], ["02-fox.png"]]
    assert contents(tmp_path / "killed") == contents(whole)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation.json", '{"suite": "renoise_table1"}', "holds the output of the suite 'renoise_table1'"),
        ("manifest.jsonl", '{"file_name": "a.png"}\n', "holds the output of another command"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    photos: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate_convergence(options(photos), folder)
    assert (folder / name).read_text() == content


def test_other_settings_are_refused_unless_the_old_measurements_may_go(photos: Path, tmp_path: Path) -> None:
    for name in ("01-dog.png", "02-fox.png"):
        (photos / name).unlink()
    evaluate_convergence(options(photos), tmp_path / "out")
    other = options(photos, "--model.num_inference_steps=1")
    with pytest.raises(InputError, match=r"num_inversion_steps was 2, now 1.*--writer.overwrite true"):
        evaluate_convergence(other, tmp_path / "out")
    evaluate_convergence([*other, "--writer.overwrite=true"], tmp_path / "out")
    assert pd.read_csv(tmp_path / "out/convergence.csv")["t"].nunique() == 1


def test_one_image_has_no_standard_deviations_which_is_said_once(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "01-dog.png").unlink()
    (photos / "02-fox.png").write_bytes(b"no image")
    evaluate_convergence(options(photos), tmp_path / "out")
    output = capfd.readouterr().out
    assert output.count("one image: there are no standard deviations") == 1
    assert output.count("failed: 02-fox.png: ") == 1
    page = (tmp_path / "out/convergence.md").read_text()
    assert " ± " not in page.split("## What")[0].partition("|")[2]


def test_a_network_without_derivatives_has_no_norms_which_is_said_once_and_the_rest_is_measured(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("01-dog.png", "02-fox.png"):
        (photos / name).unlink()
    evaluate_convergence(options(photos, "--model.layerwise_casting=true"), tmp_path / "out")
    output = capfd.readouterr().out
    assert output.count("the norms of the Jacobian are left out, because the network has no derivatives here") == 1
    assert not (tmp_path / "out/jacobian.csv").exists()
    assert len(pd.read_csv(tmp_path / "out/convergence.csv")) == 2 * 3
    assert "Jacobian norm" not in (tmp_path / "out/convergence.md").read_text()


def test_an_image_that_was_replaced_is_measured_again(photos: Path, tmp_path: Path) -> None:
    for name in ("01-dog.png", "02-fox.png"):
        (photos / name).unlink()
    evaluate_convergence(options(photos), tmp_path / "out")
    before = (tmp_path / "out/convergence.csv").read_text()
    Image.open(SCENES / "05-koala.png").save(photos / "00-cat.png")
    evaluate_convergence(options(photos), tmp_path / "out")
    assert (tmp_path / "out/convergence.csv").read_text() != before
