from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.edit_benchmark import Bench, main
from benchmarks.edit_evaluation import EditEvaluation
from benchmarks.edit_settings import EditorSetting, InversionSetting, Suite
from benchmarks.edit_suites import SUITES
from benchmarks.evaluation import UNSEEN_SEED
from benchmarks.kept_rows import fingerprint
from benchmarks.marked_text import check_block
from benchmarks import edit_benchmark, edit_costs
from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene, random_scenes

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = Suite(
    "small",
    "data/models/tiny-sd",
    "DDIMScheduler",
    2,
    {"shared": InversionSetting("ddim"), "own": InversionSetting("ddim", per_guidance=True)},
    {
        "whole": EditorSetting("PromptSwap"),
        "half": EditorSetting("PromptSwap", {"strength": 0.5}, ("shared",)),
    },
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page for the small suite, which is the only one."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(edit_benchmark, "SUITES", (SMALL,))
    monkeypatch.setattr(edit_benchmark, "GUIDANCE", (1.0, 2.0))
    monkeypatch.setattr(edit_costs, "overhead", lambda *_: 1.07)
    path = tmp_path / "docs/page.md"
    path.parent.mkdir()
    blocks = [f"<!-- begin {name} -->\n<!-- end {name} -->" for name in ("edits small", "costs small", "memory")]
    path.write_text("\n".join(["above", *blocks, "below"]) + "\n")
    return path


@pytest.fixture
def inverted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The guidances of the inversions that are made."""
    guidances: list[float] = []
    invert = InversionSetting.invert

    def noted(self: InversionSetting, model: DiffusionModel, schedule: Schedule, scenes: Sequence[Scene]) -> Inversion:
        guidances.append(self.guidance_scale)
        return invert(self, model, schedule, scenes)

    monkeypatch.setattr(InversionSetting, "invert", noted)
    return guidances


def bench(kept: Path, images: int = 2) -> Bench:
    folder = "data/models/scene-classifier"
    judge, weights = SceneJudge.from_pretrained(folder), fingerprint([SMALL.checkpoint, folder])
    return Bench(SMALL, *SMALL.load(), random_scenes(images, UNSEEN_SEED), judge, weights, kept)


def test_the_page_the_figure_and_the_file_of_all_points_are_written(
    page: Path, inverted: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit_costs, "peak_memory", lambda _, images, options: images * len(options) * 2**20)
    main(2, ("small",), page, page.parent / "kept.jsonl")
    costs = (
        "| half | 1.070 x | 1.070 x |",
        "Peak memory of a run with Pix2PixZero: 64 MiB over 64 images, 512 MiB over 512.",
    )
    told = capsys.readouterr().out
    assert all(line in told for line in costs)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("above", "below")
    assert all(line in lines for line in costs)
    pairs = [tuple(line.split(" | ")[:2]) for line in lines if line.count("|") > 4][2:]
    assert pairs == [("| whole", "shared"), ("| whole", "own"), ("| half", "shared")]
    assert "(edits-small.png)" in page.read_text()
    assert 0 < (page.parent / "edits-small.png").stat().st_size < 80_000
    with (page.parent / "edits.csv").open(newline="") as file:
        rows = {(row["inversion"], row["editor"], row["guidance_scale"]): row for row in csv.DictReader(file)}
    expected = {("shared", "whole", "1"): "2", ("shared", "whole", "2"): "4", ("own", "whole", "2"): "4"}
    expected |= {("shared", "half", "1"): "1", ("shared", "half", "2"): "2"}
    assert {pair: row["nfe"] for pair, row in rows.items()} == expected
    assert [rows[name, "whole", "2"]["inversion_rows"] for name in ("shared", "own")] == ["2", "4"]
    overheads = 1.0
    assert inverted == [1.0, 2.0, overheads], "one inversion serves all the edits that it can"


def test_an_interrupted_run_goes_on(page: Path, inverted: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def evaluate_editor(*_: object) -> EditEvaluation:
        measured.append(len(measured))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return EditEvaluation(0.5, 17, 25, 0.9, 0.05, len(measured), 0.1, 20)

    monkeypatch.setattr(edit_benchmark, "evaluate_editor", evaluate_editor)
    kept = page.parent / "kept/rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        main(2, ("small",), page, kept)
    assert page.read_text().count("|") == 0
    main(2, ("small",), page, kept, costs=False)
    assert len(measured) == 5 + 1  # the one that was interrupted, again
    inverted.clear()
    points = bench(kept).points(Console(quiet=True))
    assert len(measured) == 5 + 1
    assert inverted == [], "nothing is inverted for rows that are there"
    assert [point.found.nfe for point in points] == [1, 2, 4, 5, 6]
    bench(kept, images=3).points(Console(quiet=True))
    assert len(measured) == 5 + 1 + 5, "other images are other rows"


def test_a_suite_that_is_none_or_has_no_place_is_refused_before_anything_is_measured(page: Path) -> None:
    with pytest.raises(InputError, match="there is no suite 'large'; there are small"):
        main(2, ("large",), page)
    page.write_text("no marks\n")
    with pytest.raises(InputError, match="lacks the marks <!-- begin edits small -->"):
        main(2, ("small",), page)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_page_has_a_place_for_every_suite(suite: Suite) -> None:
    for name in (f"edits {suite.name}", f"costs {suite.name}", "memory"):
        check_block(REPOSITORY / "docs/results.md", name)
