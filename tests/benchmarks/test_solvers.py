from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import solvers
from benchmarks.shared.evaluation import Judges
from benchmarks.shared.presets import tiny_presets
from benchmarks.shared.scenes import unseen_scenes
from benchmarks.solvers import CALLS, PAIRS, STEPS, methods, preset_row, solver_rows, step_row

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_is_compared_takes_the_same_number_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for (_, steps), calls in CALLS.items():
        for count in calls:
            assert count % steps == 0
            made = {name: method.init_args for name, method in methods(steps, count).items()}
            assert steps * (made["plain"]["iterations"] + 1) == count == made["budget"]["max_nfe"]
            assert made["equal K"]["iterations"] == made["plain"]["iterations"]
    (row,) = solver_rows("sd14", 2, [4], unseen_scenes(2))
    assert (row["steps"], row["calls"]) == (2, 4)
    assert row["budget"] < row["plain"]


def test_a_preset_is_measured_with_both_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    judges = Judges.from_pretrained("data/models/scene-classifier", "data/models/strict-classifier")
    row = preset_row("sdxl_turbo_fast", unseen_scenes(4), judges)
    assert row["NFE"] == 10
    assert row["images per second"] > 0
    assert {row["target animal"], row["strict judge"]} <= {0.25, 0.5, 0.75, 1.0}


def test_the_page_gets_every_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(solvers, "preset_row", lambda preset, *_: {"preset": preset, "NFE": 10.2})
    monkeypatch.setattr(solvers, "solver_rows", lambda preset, steps, *_: [{"preset": preset, "steps": steps}])
    monkeypatch.setattr(solvers, "step_row", lambda _, spacing, steps, *__: {"spacing": spacing, "steps": str(steps)})
    page, names = tmp_path / "page.md", ("presets", "solvers", "steps")
    page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names))
    solvers.main(images=1, page=page)
    lines = page.read_text().splitlines()
    assert [line for line in lines if "| 10 |" in line] == [
        f"| {name} | 10 |" for each in PAIRS.items() for name in each
    ] + ["| sd14 | 10 |"]
    assert "| sd14 | 50 |" in lines
    assert "| trailing | (15, 5, 0) |" in lines


def test_every_number_of_steps_takes_as_many_calls_and_is_measured_in_its_own_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {inversion * (iterations + 1) + sampling for inversion, sampling, iterations in STEPS} == {20}
    monkeypatch.chdir(REPOSITORY)
    row = step_row("data/models/tiny-sdxl", "trailing", (3, 2, 1), unseen_scenes(2))
    assert (row["calls"], row["ends / starts at t"]) == ("6 + 2", "999 / 999")


def test_every_preset_is_on_one_side_of_the_comparison() -> None:
    assert sorted([*PAIRS, *PAIRS.values(), "sd35"]) == tiny_presets()  # sd35: benchmarks.flow
