from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tiny_models import judge

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["data/models/tiny-sd"],
        ["data/models/tiny-sdxl", "--guidance-scale", "1"],
        ["data/models/tiny-sd", "--lora", "data/models/tiny-lcm-lora", "--scheduler", "DDIMScheduler"],
    ],
    ids=["sd", "sdxl", "lora"],
)
def test_the_command_line_measures_every_kind_of_shipped_model(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(judge, "AUTOENCODER_SCENES", 2)
    few = ["--images", "2", "--num-inference-steps", "2", "--timestep-spacing", "trailing"]
    judge.main([*arguments, *few, "--sheet", str(tmp_path / "sheets/samples.png")])
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert first_words == ["autoencoder,", "autoencoder,", "right", "right", "both"]
    with Image.open(tmp_path / "sheets/samples.png") as sheet:
        assert sheet.width > 128


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        judge.main(["data/models/tiny-sd", "--images", "2", "--no-such"])
    assert "--no-such" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_loaded_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"^error: checkpoint: {tmp_path}") as stopped:
        judge.main([str(tmp_path)])
    assert "\n" not in str(stopped.value)
