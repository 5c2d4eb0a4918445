from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import edit_costs, edits
from benchmarks.edit_suites import EditorSetting, InversionSetting, Suite
from benchmarks.edits import main
from benchmarks.shared.evaluation import EditQuality
from benchmarks.shared.scenes import invert_scenes
from renoise import DDIM, InputError, Inversion

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = Suite(
    {"checkpoint": "data/models/tiny-sd", "scheduler": "DDIMScheduler", "num_inference_steps": 2},
    {"shared": InversionSetting(DDIM()), "own": InversionSetting(DDIM(), at_edit_guidance=True)},
    {"whole": EditorSetting("PromptSwap"), "half": EditorSetting("PromptSwap", {"strength": 0.5}, ("shared",))},
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page for the small suite, which is the only one."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(edits, "SUITES", {"small": SMALL})
    monkeypatch.setattr(edits, "GUIDANCE", (1.0, 2.0))
    monkeypatch.setattr(edit_costs, "overhead", lambda *_: 1.07)
    monkeypatch.setattr(edit_costs, "peak_memory", lambda _, images, options: images * len(options) * 2**20)
    path = tmp_path / "docs/page.md"
    path.parent.mkdir()
    blocks = [f"<!-- begin {name} -->\n<!-- end {name} -->" for name in ("edits small", "costs small", "memory")]
    path.write_text("\n".join(["above", *blocks, "below"]) + "\n")
    return path


@pytest.fixture
def inverted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The guidances of the inversions that are made."""
    guidances: list[float] = []

    def recorded(*arguments: Any, **options: Any) -> Inversion:
        guidances.append(options["guidance_scale"])
        return invert_scenes(*arguments, **options)

    monkeypatch.setattr(edits, "invert_scenes", recorded)
    return guidances


def test_the_page_the_figure_and_the_file_of_all_points_are_written(page: Path, inverted: list[float]) -> None:
    main(2, ["small"], page, page.parent / "kept.jsonl")
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("above", "below")
    assert "| half | 1.070 x | 1.070 x |" in lines
    assert "Peak memory of a run with Pix2PixZero: 64 MiB over 64 images, 512 MiB over 512." in lines
    pairs = [tuple(line.split(" | ")[:2]) for line in lines if line.count("|") > 4][2:]
    assert pairs == [("| whole", "shared"), ("| whole", "own"), ("| half", "shared")]
    assert "(edits-small.png)" in page.read_text()
    assert 0 < (page.parent / "edits-small.png").stat().st_size < 80_000
    points = pd.read_csv(page.parent / "edits.csv").set_index(["inversion", "editor", "guidance_scale"])
    assert points.nfe.to_dict() == {
        ("shared", "whole", 1): 2,
        ("shared", "whole", 2): 4,
        ("shared", "half", 1): 1,
        ("shared", "half", 2): 2,
        ("own", "whole", 2): 4,
    }
    assert list(points.inversion_nfe) == [2, 2, 4, 2, 2], "editor by editor"
    assert inverted == [1.0, 2.0], "one inversion serves every edit that it can"


def test_an_interrupted_measurement_continues(
    page: Path, inverted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def evaluate_edits(*_: object) -> EditQuality:
        measured.append(len(measured))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return EditQuality(0.5, 0.25, 17, 25, 0.9, 0.05, len(measured), 0.1, 20)

    monkeypatch.setattr(edits, "evaluate_edits", evaluate_edits)
    kept = page.parent / "kept/rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        main(2, ["small"], page, kept)
    assert page.read_text().count("|") == 0
    main(2, ["small"], page, kept, costs=False)
    assert len(measured) == 5 + 1, "the interrupted point is measured again"
    inverted.clear()
    main(2, ["small"], page, kept, costs=False)
    assert len(measured) == 5 + 1
    assert inverted == [], "nothing is inverted for rows that were measured before"
    main(3, ["small"], page, kept, costs=False)
    assert len(measured) == 5 + 1 + 5, "other images are other rows"


def test_a_suite_that_does_not_exist_or_has_no_place_is_refused_before_anything_is_measured(page: Path) -> None:
    with pytest.raises(InputError, match="there is no suite 'large'; there are small"):
        main(2, ["large"], page)
    page.write_text("no marks\n")
    with pytest.raises(InputError, match="lacks the marks <!-- begin edits small -->"):
        main(2, ["small"], page)
