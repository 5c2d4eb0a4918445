"""The paper's ablation on the shipped models, row by row: `python -m benchmarks.ablation` writes docs/results.md's tables.

Each preset of configs/tiny is taken apart: plain reversal of the sampler, more and more renoising, averaging, edit
losses, noise correction.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from omegaconf import OmegaConf
from rich.console import Console

from benchmarks.evaluation import UNSEEN_SEED, Evaluation, PromptSwapping, evaluate
from benchmarks.kept_rows import append_row, fingerprint, read_rows
from benchmarks.marked_text import check_block, replace_block
from renoise.core.edit_regularization import EditRegularization
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights, Renoising
from renoise.core.schedule import Schedule
from renoise.errors import InputError
from renoise.inversion.base import Inverter
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from renoise.models.schedulers import replace_scheduler
from tiny_models.judge import SceneJudge
from tiny_models.scenes import random_scenes

PRESETS = ("sd14", "sdxl", "sdxl_turbo", "lcm_lora")
MEASURED = {"checkpoint", "lora", "scheduler", "scheduler_options", "num_inference_steps", "renoise_iterations"}
MEASURED |= {"averaging_weights", "edit_losses", "noise_correction", "guidance_scale", "editors"}
"""What a preset's `model` may hold; guidance during inversion is 1 in all of them."""
KL_WEIGHT = 20.0
"""λ of L_KL where it stands in for L_patch-KL, as pix2pix-zero has it."""
HEADER = (
    "| | latent MSE | PSNR (dB) | SSIM | rows | mean of z_T | std of z_T | target animal | edit's PSNR (dB) |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Variant:
    """One row of the ablation: what of the method is switched on."""

    iterations: int = 0
    averaging_weights: AveragingWeights | None = None
    edit_losses: EditRegularization | None = None
    noise_correction: NoiseCorrection = field(default_factory=NoiseCorrection)


@dataclass(frozen=True)
class Preset:
    """The settings of a configuration's model."""

    model: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Preset:
        """From one of configs/*.yaml."""
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        unknown = content["model"].keys() - MEASURED
        if unknown:
            raise InputError(f"{path}: the ablation knows nothing of {', '.join(sorted(unknown))}")
        return cls(content["model"])

    @property
    def method(self) -> Variant:
        """The whole of it."""
        return Variant(
            self.model["renoise_iterations"],
            AveragingWeights(**self.model["averaging_weights"]),
            EditRegularization(**self.model["edit_losses"]),
            NoiseCorrection(self.model.get("noise_correction", "none")),
        )

    def fingerprint(self) -> str:
        """Of the weights; see `benchmarks.kept_rows.fingerprint`."""
        folders = [self.model["checkpoint"], *filter(None, [self.model.get("lora")])]
        return fingerprint(folders)

    @property
    def edit_guidance(self) -> float:
        """Of the preset's prompt swap."""
        return float(self.model["editors"][0]["init_args"]["guidance_scale"])

    def load(self) -> tuple[DiffusionModel, Schedule]:
        """The model and its sampler's steps."""
        model = load_model(self.model["checkpoint"], self.model.get("lora"))
        options = self.model.get("scheduler_options")
        sampler = replace_scheduler(model.scheduler, self.model["scheduler"], options)
        return model, Schedule.from_scheduler(sampler, self.model["num_inference_steps"])


def methods(whole: Variant) -> dict[str, Variant]:
    """The rows of the paper's ablation: what each adds to plain reversal, to averaging, or to both losses."""
    plain = Variant()
    rows = {"plain reversal (K = 0)": plain}
    for iterations in sorted({1, 4, whole.iterations}):
        rows[f"K = {iterations}"] = replace(plain, iterations=iterations)
    averaged = replace(plain, iterations=whole.iterations, averaging_weights=whole.averaging_weights)
    rows[f"K = {whole.iterations}, averaging"] = averaged
    losses = whole.edit_losses
    assert losses is not None
    by_kl = replace(losses, lambda_patch_kl=0.0, lambda_kl=KL_WEIGHT)
    rows["+ L_pair"] = replace(averaged, edit_losses=replace(losses, lambda_patch_kl=0.0))
    rows["+ L_pair, L_KL"] = replace(averaged, edit_losses=by_kl)
    rows["+ L_pair, L_patch-KL"] = enhanced = replace(averaged, edit_losses=losses)
    if whole.noise_correction.method != "none":
        corrections = [replace(whole.noise_correction, method=method) for method in ("override", "optimize")]
        for name, uncorrected in (("averaging, no losses", averaged), ("both losses", enhanced)):
            for correction in corrections:
                rows[f"{name}, {correction.method}"] = replace(uncorrected, noise_correction=correction)
    return rows


def ablate(preset: Preset, images: int, judge: SceneJudge, kept: Path, console: Console) -> dict[str, Evaluation]:
    """Every row of one preset; those that `kept` holds already are not measured again."""
    known = read_rows(kept, Evaluation)
    model, schedule = preset.load()
    scenes, weights = random_scenes(images, UNSEEN_SEED), preset.fingerprint()
    found = {}
    for name, method in methods(preset.method).items():
        key = json.dumps([images, weights, preset.model, dataclasses.asdict(method)])
        if key not in known:
            renoising = Renoising(method.iterations, method.averaging_weights)
            inverter = Inverter(model, schedule, renoising, method.edit_losses, method.noise_correction)
            known[key] = evaluate(inverter, scenes, PromptSwapping(judge, preset.edit_guidance))
            append_row(kept, key, known[key])
        found[name] = known[key]
        console.print(_line(name, found[name]), highlight=False, soft_wrap=True)
    return found


def empty_prompt(preset: Preset, images: int, kept: Path) -> dict[str, Evaluation]:
    """Figure 7 of the supplementary: DDIM inversion and one renoising iteration under the empty prompt."""
    known, scenes = read_rows(kept, Evaluation), random_scenes(images, UNSEEN_SEED)
    model, schedule = preset.load()
    weights, found = preset.fingerprint(), {}
    for iterations in (0, 1):
        key = json.dumps([images, weights, preset.model, "empty prompt", iterations])
        if key not in known:
            inverter = Inverter(model, schedule, Renoising(iterations))
            known[key] = evaluate(inverter, scenes, prompts=[""] * images)
            append_row(kept, key, known[key])
        found[f"empty prompt, K = {iterations}"] = known[key]
    return found


def table(rows: dict[str, Evaluation]) -> str:
    """In Markdown."""
    ceiling = next(iter(rows.values())).psnr_vae
    lines = "\n".join(_line(name, found) for name, found in rows.items())
    return f"{HEADER}{lines}\n\nThe autoencoder's own round trip: {ceiling:.2f} dB.\n"


def _line(name: str, found: Evaluation) -> str:
    cells = [
        f"{found.latent_mse:.2e}",
        f"{found.psnr:.2f}",
        f"{found.ssim:.3f}",
        f"{found.nfe:.0f}",
        f"{found.latent_mean:+.3f}",
        f"{found.latent_std:.3f}",
        "" if found.target_share is None else f"{found.target_share:.1%}",
        "" if found.target_psnr is None else f"{found.target_psnr:.2f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main(
    images: int = 64,
    presets: tuple[str, ...] = PRESETS,
    page: Path = Path("docs/results.md"),
    kept: Path = Path("out/ablation.jsonl"),
    classifier: str = "data/models/scene-classifier",
) -> None:
    """Measures every row and writes the tables into the page.

    Args:
        images: unseen scenes to measure on.
        presets: names of files in configs/tiny.
        page: whose marked blocks are replaced.
        kept: rows measured so far, by settings and weights, which an interrupted run goes on from; to be deleted where
            the code has changed.
        classifier: folder of the judge of edits.
    """
    console, judge = Console(), SceneJudge.from_pretrained(classifier)
    read = {name: Preset.read(Path("configs/tiny", f"{name}.yaml")) for name in presets}
    for name in presets:
        check_block(page, name)  # before hours of measuring
    for name, preset in read.items():
        console.print(f"{name}, {images} unseen scenes")
        replace_block(page, name, table(ablate(preset, images, judge, kept, console)))
        if name == "sdxl":
            replace_block(page, "empty prompt", table(empty_prompt(preset, images, kept)))


if __name__ == "__main__":
    auto_cli(main)
