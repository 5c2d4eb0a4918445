"""What `renoise models` says of the model families."""

from __future__ import annotations

import pytest

from renoise.cli import main
from renoise.models.families import describe_families, load_families


def test_the_command_lists_every_family_with_what_it_was_checked_with(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models"])
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert [line.partition(":")[0] for line in lines[::2]] == list(load_families())
    assert all(line.endswith("; not with real weights") for line in lines[1::2])


def test_a_family_of_another_package_that_says_nothing_has_its_title_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    family = load_families()["StableDiffusionPipeline"]
    monkeypatch.setattr(family, "checked_with", "")
    assert "StableDiffusionPipeline: Stable Diffusion 1.x and 2.x" in describe_families()
