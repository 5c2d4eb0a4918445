"""Editing methods over inversions: `python -m benchmarks.edit_benchmark` writes docs/results.md's second half.

Every pair swaps the animal of unseen scenes at several guidances. The page gets a table and a figure per model,
docs/edits.csv every point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.edit_costs import guided_memory, overhead_table, overheads
from benchmarks.edit_evaluation import EditEvaluation, evaluate_editor
from benchmarks.edit_settings import GUIDANCE, EditorSetting, InversionSetting, Suite
from benchmarks.edit_suites import SUITES
from benchmarks.edit_sweeps import EQUAL_SHARE, Point, sweeps, table, write_csv
from benchmarks.evaluation import SWAP_SEED, UNSEEN_SEED
from benchmarks.kept_rows import append_row, fingerprint, read_rows
from benchmarks.marked_text import check_block, replace_block
from benchmarks.plots import Curve, plot_curves
from renoise.core.schedule import Schedule
from renoise.editing.base import check_needs
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.models.base import DiffusionModel
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene, random_scenes, with_other_subjects

NAMES = tuple(suite.name for suite in SUITES)


@dataclass(frozen=True)
class Bench:
    """A loaded suite and the scenes to edit.

    Args:
        suite: what is compared.
        model: its model.
        schedule: its sampler's steps.
        scenes: that no model was trained on.
        judge: of the edits.
        weights: tell the model and the judge from others; see `fingerprint`.
        kept: file of the rows measured so far.
    """

    suite: Suite
    model: DiffusionModel
    schedule: Schedule
    scenes: list[Scene]
    judge: SceneJudge
    weights: str
    kept: Path

    @property
    def targets(self) -> list[Scene]:
        """The scenes' right answers."""
        return list(with_other_subjects(self.scenes, SWAP_SEED))

    def points(self, console: Console) -> list[Point]:
        """Every pair at every guidance; those that are kept already are not measured again."""
        known = read_rows(self.kept, EditEvaluation)
        editors = self.suite.editor_settings()
        points = []
        for inversion_name, general in self.suite.inversions.items():
            made: dict[float, Inversion] = {}
            for editor_name, editor in editors.items():
                if editor.inversions is not None and inversion_name not in editor.inversions:
                    continue
                for guidance in GUIDANCE:
                    inversion = general.at(guidance)
                    if inversion is None:
                        continue
                    key = self._key(inversion, editor, guidance)
                    if key not in known:
                        known[key] = self._measure(inversion, made, editor, guidance)
                        append_row(self.kept, key, known[key])
                    points.append(Point(editor_name, inversion_name, guidance, known[key]))
                    console.print(_progress(points[-1]), highlight=False, soft_wrap=True)
        return points

    def _key(self, inversion: InversionSetting, editor: EditorSetting, guidance: float) -> str:
        """What a row depends on."""
        made_with = {**editor.init_args, "guidance_scale": guidance}
        settings = [self.suite.sampler, asdict(inversion), editor.class_name, made_with]
        return json.dumps([len(self.scenes), self.weights, *settings])

    def overheads(self, batch_size: int = 8) -> Iterator[tuple[str, tuple[float, float]]]:
        """Each editor's, on some of the scenes; see `benchmarks.edit_costs.overheads`."""
        few = self.scenes[:batch_size], self.targets[:batch_size]
        return overheads(self.suite, self.model, self.schedule, *few)

    def _measure(
        self, setting: InversionSetting, made: dict[float, Inversion], editor: EditorSetting, guidance: float
    ) -> EditEvaluation:
        """One point; `made` holds the inversions of its setting by their guidance."""
        method = editor.make(guidance)
        check_needs(method, self.model, self.schedule)
        if setting.guidance_scale not in made:
            made[setting.guidance_scale] = setting.invert(self.model, self.schedule, self.scenes)
        inversion = made[setting.guidance_scale]
        return evaluate_editor(method, self.model, inversion, self.scenes, self.targets, self.judge)


def figure(path: Path, points: Sequence[Point]) -> None:
    """Writes a suite's curves: how many edits succeed against how much of the background they keep."""
    panels: dict[str, dict[str, Curve]] = {}
    for (editor, inversion), sweep in sweeps(points).items():
        panels.setdefault(editor, {})[inversion] = [
            (100 * point.found.target_share, point.found.background_psnr, f"{point.guidance_scale:g}")
            for point in sweep
        ]
    plot_curves(path, panels, "target animal (%)", "background PSNR (dB)")


def block(suite: Suite, points: Sequence[Point]) -> str:
    """What the page shows of a suite, in Markdown."""
    image = f"![background PSNR over the share of target animals, a panel per editing method]({_figure_name(suite)})"
    return f"{table(points)}\n{image}\n\n*Numbers beside the points are guidances.*\n"


def main(
    images: int = 64,
    suites: tuple[str, ...] = NAMES,
    page: Path = Path("docs/results.md"),
    kept: Path = Path("out/edits.jsonl"),
    classifier: str = "data/models/scene-classifier",
    costs: bool = True,
) -> None:
    """Measures every pair at every guidance, and writes tables into the page, figures and edits.csv beside it.

    Args:
        images: unseen scenes to edit.
        suites: names of those to measure.
        page: whose marked blocks are replaced.
        kept: rows measured so far, by settings and weights, which an interrupted run goes on from; to be deleted where
            the code has changed.
        classifier: folder of the judge of edits.
        costs: whether to measure as well what editors take beyond their network calls, and cross-attention guidance's
            peak memory; these are measured anew each time, and want a machine with nothing else to do.
    """
    console, judge, known = Console(), SceneJudge.from_pretrained(classifier), {suite.name: suite for suite in SUITES}
    for name in suites:
        if name not in known:
            raise InputError(f"there is no suite {name!r}; there are {', '.join(known)}")
        known[name].editor_settings()  # what cannot be read is found before hours of measuring
        for block_name in [f"edits {name}", *([f"costs {name}", "memory"] if costs else [])]:
            check_block(page, block_name)
    for name in suites:
        suite = known[name]
        weights = fingerprint([suite.checkpoint, classifier])
        bench = Bench(suite, *suite.load(), random_scenes(images, UNSEEN_SEED), judge, weights, kept)
        console.print(f"{name}, {images} unseen scenes, compared where {EQUAL_SHARE:.0%} of the edits succeed")
        points = bench.points(console)
        replace_block(page, f"edits {name}", block(suite, points))
        figure(page.parent / _figure_name(suite), points)
        write_csv(page.parent / "edits.csv", list(known), {name: points})
        if costs:
            ratios = dict(bench.overheads())
            console.print(overhead_table(ratios))
            replace_block(page, f"costs {name}", overhead_table(ratios))
    if costs:
        memory = guided_memory(SUITES[0].checkpoint)
        console.print(memory)
        replace_block(page, "memory", memory)


def _figure_name(suite: Suite) -> str:
    return f"edits-{suite.name}.png"


def _progress(point: Point) -> str:
    found = point.found
    return (
        f"{point.inversion}, {point.editor} at {point.guidance_scale:g}: {found.target_share:.1%}, "
        f"background {found.background_psnr:.2f} dB, true edit {found.target_psnr:.2f} dB"
    )


if __name__ == "__main__":
    auto_cli(main)
