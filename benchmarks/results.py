"""The paper's tables and figures on the shipped models: `python -m benchmarks.results` fills docs/results.md.

It runs the suites of `renoise evaluate` on unseen scenes, and copies their tables and figures into the page.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jsonargparse import auto_cli
from PIL import Image

from benchmarks.scene_folder import main as write_scene_folder
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.presets import CHECKOUT
from renoise import InputError

RECONSTRUCTIONS = ["psnr", "st_lpips_alex", "latent_mse"]
PICTURE_QUALITY = 90
MAX_WIDTH = 1200
"""Of a picture in the page, in pixels."""


@dataclass(frozen=True)
class SuiteRun:
    """One suite on one shipped model.

    Args:
        suite: Its name, or its file below the checkout.
        preset: The preset whose checkpoint and settings it takes, on its shipped model.
        metrics: Names of the metrics.
        edits: Whether its edits are measured, by the judges of the miniature world too.
        options: Further options of the command.
        pictures: Files of the suite's output, and their names in `docs/`.
    """

    suite: str
    preset: str
    metrics: Sequence[str] = tuple(RECONSTRUCTIONS)
    edits: bool = False
    options: Sequence[str] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)

    def command(self, data: Path, output: Path) -> list[str]:
        """Returns the arguments of `renoise`.

        Args:
            data: The folder that `benchmarks.scene_folder` wrote.
            output: The folder of this suite's output.
        """
        metrics = list(self.metrics)
        if self.edits:
            truth = f"{{benchmarks.scene_metrics.TrueEditPSNR: {{folder: {data / 'true_edits'}}}}}"
            animals = ["benchmarks.scene_metrics.TargetAnimal", "benchmarks.scene_metrics.StrictTargetAnimal"]
            clip = "{clip_score: {checkpoint: data/models/tiny-clip}}"
            metrics += ["background_psnr", clip, *animals, truth]
        overlay = ["--preset", self.preset, "--config", f"configs/tiny/{self.preset}.yaml"]
        options = {
            "--suite": self.suite,
            "--metrics": f"[{', '.join(metrics)}]",
            "--data.root": str(data / "images"),
            "--data.captioner": "null",
            "--data.batch_size": "16",
            "--trainer.accelerator": "cpu",
            "--trainer.enable_progress_bar": "false",
            "--trainer.default_root_dir": str(output),
            "--reference": "true",
        }
        return ["evaluate", *overlay, *(part for pair in options.items() for part in pair), *self.options]


RUNS = {
    "table 1": SuiteRun("renoise_table1", "sdxl"),
    "table 2": SuiteRun("renoise_table2", "sdxl_turbo", edits=True, pictures={"comparison.png": "table2.jpg"}),
    "calls": SuiteRun(
        "renoise_calls", "sdxl_turbo", options=("--compare_at", "nfe=20"), pictures={"over_nfe.png": "over_nfe.png"}
    ),
    "figure 4": SuiteRun(
        "benchmarks/suites/figure4.yaml", "sd14", edits=True, pictures={"comparison.png": "figure4.jpg"}
    ),
    "figure 6": SuiteRun("renoise_figure6", "sdxl_turbo", edits=True, pictures={"comparison.png": "figure6.jpg"}),
    "figure 7": SuiteRun("renoise_figure7", "sdxl"),
}
"""By the name of the page's block."""


def block(table: str) -> str:
    """Returns a suite's tables as a block of the page: headings become captions."""
    return re.sub(r"^## (.*)$", r"*\1*", table, flags=re.MULTILINE).rstrip() + "\n"


def copy_picture(source: Path, target: Path) -> None:
    """Copies a picture into the page's folder, at most `MAX_WIDTH` pixels wide.

    Args:
        source: A PNG file.
        target: A PNG or JPEG file.
    """
    with Image.open(source) as file:
        picture = file.convert("RGB")
    picture.thumbnail((MAX_WIDTH, picture.height), Image.Resampling.LANCZOS)
    picture.save(target, quality=PICTURE_QUALITY, optimize=True)


def main(
    runs: Sequence[str] = tuple(RUNS),
    images: int = 32,
    output: Path = Path("out/results"),
    page: Path = Path("docs/results.md"),
) -> None:
    """Runs suites and writes their tables into the page. What an earlier call has measured is not repeated.

    Args:
        runs: Names of the page's blocks.
        images: Number of unseen scenes.
        output: Folder of the scenes and of all suites' output.
        page: Its marked blocks are replaced, and figures are written beside it.
    """
    for name in runs:
        if name not in RUNS:
            raise InputError(f"runs: there is no {name!r}; there are {', '.join(RUNS)}")
        check_block(page, name)  # before an hour of measuring
    data = output.absolute() / f"scenes-{images}"
    if not (data / "images/metadata.jsonl").exists():
        write_scene_folder(data, images)
    for name in runs:
        run, folder = RUNS[name], output.absolute() / f"{name.replace(' ', '-')}-{images}"
        subprocess.run([sys.executable, "-m", "renoise", *run.command(data, folder)], cwd=CHECKOUT, check=True)
        replace_block(page, name, block((folder / "table.md").read_text(encoding="utf-8")))
        for source, target in run.pictures.items():
            copy_picture(folder / source, page.parent / target)


if __name__ == "__main__":
    auto_cli(main)
