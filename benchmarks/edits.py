"""Editing methods over inversion methods: `python -m benchmarks.edits` writes docs/editing.md.

Every pair swaps the animals of unseen scenes at several guidances. The page gets a table and a figure per suite,
docs/edits.csv every point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli

from benchmarks.edit_costs import guided_memory, overhead_table, overheads
from benchmarks.edit_suites import SUITES, EditorSetting, InversionSetting, Suite
from benchmarks.edit_tables import EQUAL_SHARE, curves, sweeps, table
from benchmarks.shared.evaluation import EditQuality, Judges, evaluate_edits
from benchmarks.shared.kept_rows import KeptRows, fingerprint
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.plots import plot_curves
from benchmarks.shared.presets import load
from benchmarks.shared.scenes import invert_scenes, swapped, unseen_scenes
from benchmarks.shared.tables import update_csv
from renoise import InputError, Inversion, InversionPipeline
from tiny_models.scenes import Scene

GUIDANCE = (1.0, 1.5, 2.0, 3.0)
"""Guidances of the edits that every pair is measured at."""
TIMED_IMAGES = 8


@dataclass(frozen=True)
class Bench:
    """A loaded suite and the scenes to edit.

    Args:
        name: Of the suite.
        suite: What is compared.
        pipeline: Its model and sampler.
        scenes: Unseen scenes.
        judges: Recognize the animals.
        weights: Fingerprint of the weights of model and judges.
        kept: Rows that were measured before.
    """

    name: str
    suite: Suite
    pipeline: InversionPipeline
    scenes: list[Scene]
    judges: Judges
    weights: str
    kept: KeptRows[EditQuality]

    def points(self) -> pd.DataFrame:
        """Measures every pair at every guidance. Returns a row each, editor by editor."""
        rows = []
        for inversion_name, inversion in self.suite.inversions.items():
            inverted: dict[float, Inversion] = {}
            for editor_name, editor in self.suite.editors.items():
                if editor.inversions is not None and inversion_name not in editor.inversions:
                    continue
                for guidance in GUIDANCE:
                    quality = self._quality(inversion, inverted, editor, guidance)
                    if quality is not None:
                        names = {"suite": self.name, "editor": editor_name, "inversion": inversion_name}
                        rows.append({**names, "guidance_scale": guidance, **asdict(quality)})
                        print(_progress(rows[-1]), flush=True)
        return pd.concat([sweep for _, sweep in sweeps(pd.DataFrame(rows))])

    def _quality(
        self, inversion: InversionSetting, inverted: dict[float, Inversion], editor: EditorSetting, guidance: float
    ) -> EditQuality | None:
        """Returns a row. `inverted` holds the inversions made so far by their guidance. None if there is none."""
        inversion_guidance = inversion.guidance_for(guidance)
        if inversion_guidance is None:
            return None

        def measure() -> EditQuality:
            made = inverted.get(inversion_guidance)
            if made is None:
                made = invert_scenes(
                    self.pipeline,
                    self.scenes,
                    inversion.method,
                    guidance_scale=inversion_guidance,
                    keep_trajectory=True,
                )
                inverted[inversion_guidance] = made
            targets, model = swapped(self.scenes), self.pipeline.model
            return evaluate_edits(editor.make(guidance), model, made, self.scenes, targets, self.judges)

        depends_on = [self.weights, self.suite.model, inversion.method, inversion_guidance]
        return self.kept.get([len(self.scenes), *depends_on, editor.class_path, editor.init_args, guidance], measure)

    def overheads(self) -> str:
        """Returns each editor's overhead at the lowest guidance and at the highest, in Markdown."""
        few, guidance = self.scenes[:TIMED_IMAGES], (min(GUIDANCE), max(GUIDANCE))
        return overhead_table(overheads(self.suite, self.pipeline, few, swapped(self.scenes)[:TIMED_IMAGES], guidance))


def main(
    images: int = 64,
    suites: Sequence[str] = tuple(SUITES),
    page: Path = Path("docs/editing.md"),
    kept: Path = Path("out/edits.jsonl"),
    classifier: str = "data/models/scene-classifier",
    strict_classifier: str = "data/models/strict-classifier",
    costs: bool = True,
) -> None:
    """Measures every pair at every guidance. Writes tables into the page, figures and edits.csv beside it.

    Args:
        images: Number of unseen scenes.
        suites: Names of the suites to measure.
        page: Its marked blocks are replaced.
        kept: Rows measured so far, by settings and weights. An interrupted run continues from them. Delete the file
            after a change of the methods' code.
        classifier: Folder of the model that recognizes animals.
        strict_classifier: Folder of the second, to which unfinished edits show no animal.
        costs: Whether to measure overheads and memory too. They are measured again each time, and need a machine that
            does nothing else.
    """
    for name in suites:
        if name not in SUITES:
            raise InputError(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
        for block in [f"edits {name}", *([f"costs {name}", "memory"] if costs else [])]:
            check_block(page, block)  # before hours of measuring
    judges, rows = Judges.from_pretrained(classifier, strict_classifier), KeptRows(kept, EditQuality)
    for name in suites:
        suite = SUITES[name]
        weights = fingerprint([suite.model["checkpoint"], classifier, strict_classifier])
        bench = Bench(name, suite, load(suite.model), unseen_scenes(images), judges, weights, rows)
        print(f"{name}, {images} unseen scenes, compared where {EQUAL_SHARE:.0%} of the edits are accepted", flush=True)
        points = bench.points()
        replace_block(page, f"edits {name}", _block(name, points))
        plot_curves(
            page.parent / _figure_name(name), curves(points), "accepted by the strict judge (%)", "background PSNR (dB)"
        )
        update_csv(page.parent / "edits.csv", points, "suite", list(SUITES))
        if costs:
            replace_block(page, f"costs {name}", bench.overheads())
    if costs:
        replace_block(page, "memory", guided_memory("data/models/tiny-sd"))


def _block(name: str, points: pd.DataFrame) -> str:
    """Returns what the page shows of a suite, in Markdown."""
    title = "background PSNR over the share of accepted edits, a panel per editing method"
    return f"{table(points)}\n![{title}]({_figure_name(name)})\n\n*Numbers beside the points are guidances.*\n"


def _figure_name(name: str) -> str:
    return f"edits-{name}.png"


def _progress(row: dict[str, object]) -> str:
    text = "{inversion}, {editor} at {guidance_scale:g}: {target_share:.1%}, background {background_psnr:.2f} dB"
    return text.format(**row)


if __name__ == "__main__":
    auto_cli(main)
