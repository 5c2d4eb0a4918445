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
def test_the_command_line_judges_every_kind_of_shipped_model(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(judge, "AUTOENCODER_SCENES", 2)
    few = ["--images", "2", "--num-inference-steps", "2", "--timestep-spacing", "trailing"]
    monkeypatch.setattr("sys.argv", ["judge", *arguments, *few, "--sheet", str(tmp_path / "samples.png")])
    judge.main()
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["autoencoder,", "autoencoder,", "right", "right", "both"]
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.width > 128


def test_an_unknown_option_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["judge", "data/models/tiny-sd", "--image", "2", "--no-such"])
    with pytest.raises(SystemExit):
        judge.main()
    assert "--no-such" in capsys.readouterr().err
