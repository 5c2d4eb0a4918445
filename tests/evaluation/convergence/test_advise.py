"""`renoise advise`: what it prints holds for `renoise predict`."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from renoise import DDIM, Anderson, AveragingWeights, NoiseCorrection, ReNoise
from renoise.cli import main
from renoise.evaluation.convergence import increments
from renoise.evaluation.convergence.advice import Advice, calls_to
from renoise.evaluation.convergence.round_trips import RoundTrip, options_of
from renoise.evaluation.convergence.wording import sentences
from renoise.inversion.base import Inverter

TURBO = ["--preset", "sdxl_turbo", "--config", "configs/tiny/sdxl_turbo.yaml", "--data.captioner=null"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("00-cat.png", "01-dog.png"):
        shutil.copy(Path("data/images/scenes") / name, folder)
    return folder


def inversion_after(options: str, given: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The settings of the inversion that `renoise predict` has with these options."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["predict", *given, "--data.root=photos", *shlex.split(options), "--print_config"])
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["model"]["inversion"]
    return settings


@pytest.mark.parametrize(
    ("given", "options", "wanted"),
    [
        (
            ReNoise(9, averaging_weights=AveragingWeights([1.0], [1.0]), noise_correction=NoiseCorrection("override")),
            ["--model.checkpoint=x", "--model.inversion.averaging_weights={below: [1.0], above: [1.0]}"],
            ReNoise(4),
        ),
        (ReNoise(), ["--model.checkpoint=x"], ReNoise(solver=Anderson(), warm_start=True, max_nfe=20)),
        (ReNoise(), ["--model.checkpoint=x"], ReNoise(1, averaging_weights=AveragingWeights([0.5, 0.5], [0.5, 0.5]))),
        (DDIM(), ["--model.checkpoint=x", "--model.inversion=DDIM"], ReNoise(2, tolerance=0.003)),
    ],
)
def test_printed_options_make_the_method_that_was_measured(
    given: Inverter, options: list[str], wanted: ReNoise, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inversion_after(options_of(wanted.init_args, given), options, capsys)
    assert found["class_path"].endswith("ReNoise")
    arguments = found["init_args"]
    for name in ("iterations", "tolerance", "max_nfe", "warm_start", "noise_correction", "stochastic_steps"):
        assert arguments[name] == wanted.init_args[name]
    assert (arguments["solver"] or {}).get("class_path", "").endswith("Anderson") == (
        wanted.init_args["solver"] is not None
    )
    weights = wanted.init_args["averaging_weights"]
    assert (arguments["averaging_weights"] or {}).get("below") == (None if weights is None else list(weights.below))


def test_the_advice_reaches_in_predict_what_it_promises(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(increments, "REFERENCE_CALLS", 4)
    options = [*TURBO, f"--data.root={photos}", "--trainer.accelerator=cpu"]
    main(["advise", *options, f"--trainer.default_root_dir={tmp_path / 'out'}", "--psnr=28.5"])
    output = capsys.readouterr().out
    assert "2 images" in output
    assert "calls to residual" in output
    wanted = float(re.search(r"Wanted: ([\d.]+) dB", output)[1])  # type: ignore[index]
    advised = re.search(r"Advice for reconstruction: .*\n  (.*)\n", output)
    assert advised is not None
    main(["predict", *options, f"--trainer.default_root_dir={tmp_path / 'run'}", *shlex.split(advised[1])])
    rows = [json.loads(line) for line in (tmp_path / "run/manifest.jsonl").read_text().splitlines()]
    assert sum(row["psnr"] for row in rows) / len(rows) >= wanted - 0.005  # it is printed with two decimal places
    assert all(f"{row['nfe']:.0f} calls" in advised[0] for row in rows)


def test_help_has_the_wanted_psnr_and_the_options_of_predict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["advise", "--help"])
    output = capsys.readouterr().out
    assert output.startswith("usage: renoise advise ")
    assert re.search(r"\n  --psnr +Wanted PSNR", output)
    assert "--model.num_inference_steps" in output


def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["advise", "--model.checkpoint=x", "--data.root=photos", "--psnr=high"])
    assert end.value.code == 2
    assert "psnr" in capsys.readouterr().err


def trip(name: str, nfe: float, psnr: float, latent_mse: float = 1e-3) -> RoundTrip:
    return RoundTrip(name, f"--{name}", nfe, psnr, latent_mse, seconds=nfe / 10, residual=1e-3, failed=0)


def test_the_cheapest_that_reaches_the_psnr_is_advised() -> None:
    plain = [trip("K = 0", 4, 20), trip("K = 1", 8, 30)]
    fast = [trip("Anderson, budget 4", 4, 25), trip("Anderson, budget 8", 8, 31, latent_mse=1e-4)]
    advice = Advice(31, 29, plain, fast, None, None, None)
    assert advice.best is fast[1]
    text = "\n".join(sentences(advice, [], wanted=29))
    assert "K = 1 is the first that reaches it" in text
    assert "Anderson needs as many calls" in text


def test_a_psnr_above_the_ceiling_is_said_to_be_out_of_reach() -> None:
    advice = Advice(31, 30.9, [trip("K = 0", 4, 20)], [trip("Anderson, budget 4", 4, 20)], None, None, None)
    text = "\n".join(sentences(advice, [], wanted=40))
    assert "No inversion reaches 40.00 dB: the autoencoder alone has 31.00 dB" in text
    assert "Nothing that was tried reaches it" in text


def test_calls_are_extrapolated_by_the_contraction() -> None:
    assert calls_to(1e-3, [1.0, 0.1, 0.01], 0.1) == 4
    assert calls_to(1e-3, [1.0, 1.1, 1.2], 1.1) == math.inf
    assert calls_to(1e-3, [1.0, 1.1, 1.2], math.nan) == math.inf
