from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import inversion
from benchmarks.inversion import SETTINGS, accuracy, accuracy_table, inversion_overhead
from benchmarks.shared.evaluation import RoundTrip
from renoise import ReNoise


def test_accuracy_is_measured_in_float32_or_float64(tiny_sd: Path) -> None:
    single, double = (accuracy(str(tiny_sd), 2, ReNoise(1), images=2, double=double) for double in (False, True))
    assert single.nfe == double.nfe == 4
    assert single.latent_mse == pytest.approx(double.latent_mse, rel=1e-3)
    assert single.latent_mse != double.latent_mse


def test_the_table_has_a_row_for_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(_: str, steps: int, method: ReNoise, images: int) -> RoundTrip:
        iterations = method.init_args["iterations"]
        return RoundTrip(29.5, 30.1, 0.9, 0.1 / (1 + iterations), steps * (1 + iterations), 0, 0.9)

    monkeypatch.setattr(inversion, "accuracy", found)
    lines = accuracy_table("tiny-sd", 2).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(SETTINGS)
    assert lines[4] == "| 10 | 4 | last | 29.50 | 2.00e-02 | 1/5.0 | 50 | 0.900 |"
    assert "| 50 | 1 | Table 1 |" in lines[7]
    assert lines[-1] == "The autoencoder's own round trip: 30.10 dB."


def test_the_overhead_of_an_inversion_is_measured(tiny_sd: Path) -> None:
    assert 0 < inversion_overhead(str(tiny_sd), batch_size=1, steps=2) < 10
