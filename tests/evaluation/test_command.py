"""`renoise evaluate`, run on a small suite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.suites import METRICS, SUITE
from PIL import Image

from renoise.data import batch_captioner
from renoise.data.captioner import Captioner

Evaluate = Callable[..., Any]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(float) / 255


def without_seconds(folder: Path) -> dict[str, bytes]:
    """Returns the tables and figures by name, without the times."""
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name != "seconds.csv"}


def test_there_is_a_row_for_every_image_method_and_edit(evaluated: Path) -> None:
    images = pd.read_csv(evaluated / "images.csv")
    counts = images.groupby(["method", "result"]).size().to_dict()
    assert counts == {
        ("DDIM", "reconstruction"): 3,
        ("DDIM", "PromptSwap, guidance_scale 1.0"): 3,
        ("DDIM", "PromptSwap, guidance_scale 2.0"): 3,
        ("ReNoise, iterations 1", "reconstruction"): 3,
        ("ReNoise, iterations 3", "reconstruction"): 3,
    }
    assert images.groupby("method")["nfe"].first().to_dict() == {
        "DDIM": 2,
        "ReNoise, iterations 1": 4,
        "ReNoise, iterations 3": 8,
    }


def test_rows_of_reconstructions_are_those_of_the_runs(evaluated: Path) -> None:
    images = pd.read_csv(evaluated / "images.csv")
    for method, rows in images[images["result"] == "reconstruction"].groupby("method"):
        manifest = [json.loads(line) for line in (evaluated / "runs" / method / "manifest.jsonl").open()]
        expected = {row["file_name"]: row["psnr"] for row in manifest}
        assert rows.set_index("file_name")["psnr"].to_dict() == pytest.approx(expected, rel=1e-5)


def test_edits_are_measured_from_their_files_against_the_original(evaluated: Path, masked_pictures: Path) -> None:
    images = pd.read_csv(evaluated / "images.csv").set_index(["method", "result", "file_name"])
    original, mask = pixels(masked_pictures / "b.png"), pixels(masked_pictures / "masks/b.png")
    for folder, guidance in (("PromptSwap", "1.0"), ("PromptSwap-2", "2.0")):
        edit = pixels(evaluated / "runs/DDIM/edits" / folder / "b.png.png")
        row = images.loc["DDIM", f"PromptSwap, guidance_scale {guidance}", "b.png"]
        assert row["mse"] == pytest.approx(np.mean((edit - original) ** 2), rel=1e-4)
        outside = np.mean(((edit - original) * (1 - mask)) ** 2)
        assert row["background_psnr"] == pytest.approx(-10 * np.log10(outside), rel=1e-5)


def test_the_table_has_means_with_their_spread(evaluated: Path) -> None:
    images, table = (pd.read_csv(evaluated / name) for name in ("images.csv", "table.csv"))
    values = images[(images["method"] == "DDIM") & (images["result"] == "reconstruction")]["psnr"]
    row = table[(table["method"] == "DDIM") & (table["result"] == "reconstruction")].iloc[0]
    assert (row["psnr"], row["psnr_std"]) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-4)
    assert row["psnr_median"] == pytest.approx(values.median(), rel=1e-4)
    assert row["below_15_db"] == (values < 15).sum()
    text = (evaluated / "table.md").read_text()
    assert f"| {values.mean():.2f} ± {values.std():.2f} ({values.median():.2f}) |" in text


def test_figures_and_pictures_are_written(evaluated: Path) -> None:
    assert (evaluated / "over_nfe.pdf").read_bytes().startswith(b"%PDF")
    for name in ("over_nfe.png", "comparison.png"):
        with Image.open(evaluated / name) as picture:
            picture.load()


def test_the_same_command_repeats_nothing_and_gives_the_same_bytes(
    evaluated: Path, evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    (out / "table.csv").unlink()
    measured = (out / "edit_metrics/DDIM.jsonl").read_bytes()
    assert evaluate(SUITE, masked_pictures, out, "--compare_at", "nfe").status == 0
    assert without_seconds(out) == without_seconds(evaluated)
    assert (out / "seconds.csv").read_bytes() == (evaluated / "seconds.csv").read_bytes()  # of the runs, not repeated
    assert (out / "edit_metrics/DDIM.jsonl").read_bytes() == measured


def test_a_killed_evaluation_and_a_whole_one_give_the_same_tables(
    evaluated: Path, evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = evaluate(SUITE, masked_pictures, out, "--limit", "1", "--compare_at", "nfe")
    assert ended.status == 0, ended.err
    assert len(pd.read_csv(out / "images.csv")) == 5
    lines = out / "edit_metrics/DDIM.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])  # a kill cuts off the last line
    assert evaluate(SUITE, masked_pictures, out, "--compare_at", "nfe").status == 0
    assert without_seconds(out) == without_seconds(evaluated)


def test_other_metrics_of_reconstructions_are_refused_where_runs_exist(
    evaluated: Path, evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    for run in (out / "runs").iterdir():
        shutil.rmtree(run) if run.name != "DDIM" else None
    suite = {**SUITE, "methods": {"DDIM": SUITE["methods"]["DDIM"]}}
    ended = evaluate(suite, masked_pictures, out, "--metrics", "[ssim]")
    assert ended.status == 2
    assert "model.metrics was ['psnr', 'mse', 'latent_mse'], now ['ssim']" in ended.err


def test_other_metrics_of_edits_are_measured_on_the_edits_that_exist(
    evaluated: Path, evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    suite = {**SUITE, "methods": {"DDIM": SUITE["methods"]["DDIM"]}}
    times = {path: path.stat().st_mtime_ns for path in (out / "runs/DDIM/edits").rglob("*.png")}
    metrics = "[psnr, mse, latent_mse, background_mse]"
    assert evaluate(suite, masked_pictures, out, "--metrics", metrics).status == 0
    images = pd.read_csv(out / "images.csv")
    assert images[images["result"] != "reconstruction"]["background_mse"].notna().all()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_folder_of_another_suite_is_refused(
    evaluated: Path, evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text(json.dumps(SUITE))
    ended = evaluate(tmp_path / "other.yaml", masked_pictures, evaluated)
    assert ended.status == 2
    assert "holds the output of the suite 'out'; choose another folder for 'other'" in ended.err


def test_what_the_data_has_no_masks_and_no_texts_for_is_left_out_and_said(
    evaluate: Evaluate, pictures: Callable[..., Path], tmp_path: Path
) -> None:
    root = pictures(tmp_path / "bare", "a.png", "b.png")
    suite = {"metrics": METRICS, "editors": SUITE["editors"], "methods": {"DDIM": SUITE["methods"]["DDIM"]}}
    ended = evaluate(suite, root, tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "the data set has no masks, so these columns are left out: background_psnr" in " ".join(ended.warnings)
    assert "DDIM: 0 edits by PromptSwap, 2 not made: the image has no edit_text" in ended.out
    assert "background" not in (tmp_path / "out/table.md").read_text()


def test_images_are_captioned_once_for_all_methods(
    evaluate: Evaluate,
    pictures: Callable[..., Path],
    tiny_blip2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[Any] = []

    def load(config: Any) -> Captioner:
        loaded.append(config)
        return Captioner(config)

    monkeypatch.setattr(batch_captioner, "Captioner", load)
    methods = {name: {"model": {"inversion": "DDIM"}} for name in ("one", "two")}
    suite = {"metrics": ["psnr"], "editors": {}, "methods": methods}
    root = pictures(tmp_path / "bare", "a.png", "b.png")
    ended = evaluate(suite, root, tmp_path / "out", "--data.captioner.checkpoint", tiny_blip2)
    assert ended.status == 0, ended.err
    assert len(loaded) == 1
    prompts = [
        [json.loads(line)["prompt"] for line in (tmp_path / "out/runs" / name / "manifest.jsonl").open()]
        for name in methods
    ]
    assert prompts[0] == prompts[1]
    assert all(prompts[0])


def test_options_of_predict_that_do_not_exist_are_answered_as_by_predict(
    evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    ended = evaluate(SUITE, masked_pictures, tmp_path / "out", "--model.step", "3")
    assert ended.status == 2
    assert "unrecognized arguments: --model.step" in ended.err
    assert "There are: model.checkpoint" in ended.err


def test_missing_weights_of_a_metric_stop_the_command_before_any_image(
    evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    ended = evaluate(SUITE, masked_pictures, tmp_path / "out", "--metrics", "[psnr, clip_score]")
    assert ended.status == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert "openai/clip-vit-large-patch14" in ended.err
    assert not (tmp_path / "out").exists()


def test_pie_bench_gets_its_table_by_the_keys_of_its_entries(
    evaluate: Evaluate, tmp_path: Path, tiny_clip: Path
) -> None:
    root, entries = tmp_path / "pie", {}
    (root / "annotation_images").mkdir(parents=True)
    for key, width in (("000000000000", 32), ("000000000001", 48)):
        Image.new("RGB", (width, 32), "teal").save(root / "annotation_images" / f"{key}.png")
        entries[key] = {"image_path": f"{key}.png", "original_prompt": "a [cat]", "editing_prompt": "a [dog]"}
        entries[key]["mask"] = [0, 200]
    (root / "mapping_file.json").write_text(json.dumps(entries))
    ended = evaluate(
        "pie_bench",
        root,
        tmp_path / "out",
        *("--data", "PIEBenchDataModule", "--data.root", root, "--data.resolution", "32"),
        *("--model.inversion", "DDIM", "--model.editors", "[PromptSwap]"),
        *("--metrics", f"[background_psnr, {{clip_score: {{checkpoint: {tiny_clip}}}}}]"),
    )
    assert ended.status == 0, ended.err
    assert "1 image (000000000001.png) not square" in ended.out
    table = pd.read_csv(tmp_path / "out/pie_bench.csv", dtype={"file_id": str})
    assert table["file_id"].tolist() == list(entries)
    images = pd.read_csv(tmp_path / "out/images.csv")
    edits = images[images["result"] == "PromptSwap"]
    columns = {"psnr_unedit_part": "background_psnr", "clip_similarity_target_image": "clip_score"}
    for theirs, ours in columns.items():
        assert table[f"inversion+PromptSwap|{theirs}"].tolist() == edits[ours].tolist()


def test_one_image_has_no_error_bars_and_that_is_said(
    evaluate: Evaluate, masked_pictures: Path, tmp_path: Path
) -> None:
    suite = {"metrics": ["psnr"], "methods": {"DDIM": SUITE["methods"]["DDIM"]}}
    ended = evaluate(suite, masked_pictures, tmp_path / "out", "--limit", "1")
    assert ended.status == 0, ended.err
    assert "one image: the tables have no standard deviations, and the figures no error bars" in ended.out
