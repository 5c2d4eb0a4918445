from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import diffusers
import pytest
import transformers

from renoise.models.loading import load_model
from renoise.utils.library_messages import quiet_loading
from renoise.utils.progress import show_progress


@pytest.fixture(autouse=True)
def without_bars_of_libraries() -> Iterator[None]:
    """As the commands load a model: a part's report has its line to itself."""
    shown = {
        library: library.is_progress_bar_enabled() for library in (diffusers.utils.logging, transformers.utils.logging)
    }
    quiet_loading(show_downloads=False)
    yield
    for library, was_shown in shown.items():
        if was_shown:
            library.enable_progress_bar()


def megabytes(part: Path, pattern: str = "*.safetensors") -> str:
    return f"{sum(path.stat().st_size for path in part.glob(pattern)) / 1e6:.1f} MB"


def test_every_part_with_weights_is_reported_with_its_size(tiny_sdxl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(True):
        load_model(str(tiny_sdxl))
    first, *others = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"loading {re.escape(str(tiny_sdxl))} \([\d.]+ MB\) …", first)
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    assert sorted(others) == [f"  loaded {part} ({megabytes(tiny_sdxl / part)})" for part in parts]


def test_only_the_weights_that_are_loaded_count(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    size = megabytes(folder / "unet")
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with show_progress(True):
        load_model(str(folder))
    assert f"  loaded unet ({size})\n" in capsys.readouterr().err


def test_nothing_is_said_where_no_progress_is_shown(tiny_sd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    before = (logger.level, list(logger.filters))
    load_model(str(tiny_sd))
    assert "loaded" not in capsys.readouterr().err
    assert (logger.level, list(logger.filters)) == before
