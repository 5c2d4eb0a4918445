"""What goes beyond the paper, measured: `python -m benchmarks.solvers` writes the tables of docs/solvers.md.

Warm starts, Anderson acceleration and budgets against plain renoising at equal network calls; the presets of our own
beside those of the paper; and more steps of inversion against renoising.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli

import renoise
from benchmarks.shared.evaluation import Judges, evaluate_edits, evaluate_round_trip
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.presets import load, only_editor, read_tiny
from benchmarks.shared.scenes import encode, invert_scenes, swapped, unseen_scenes
from benchmarks.shared.tables import markdown
from renoise import Anderson, InversionPipeline, PromptEditor, ReNoise, sample
from tiny_models.scenes import Scene

CALLS: Mapping[tuple[str, int], Sequence[int]] = {
    ("sd14", 10): (10, 20, 30, 50, 100),
    ("sd14", 20): (20, 40, 60, 100),
    ("sd14", 50): (50, 100),
    ("sdxl_turbo", 4): (4, 8, 12, 20, 40, 60, 100),
    ("lcm_lora", 4): (4, 8, 12, 20, 32, 60, 100),
}
"""Network calls of an image by preset and number of steps, in multiples of the steps."""
PAIRS = {"sd14": "sd_fast", "sdxl": "sdxl_fast", "sdxl_turbo": "sdxl_turbo_fast", "lcm_lora": "lcm_lora_fast"}
"""Presets of the paper and our own for the same checkpoints."""
STEPS = ((10, 10, 0), (15, 5, 0), (16, 4, 0), (5, 5, 2))
"""Steps of inversion, steps of sampling, and K. Each takes 20 network calls, inversion and sampling together."""
SPACINGS = ("leading", "trailing")
SOLVER_FORMATS = {"plain": ".2e", "equal K": ".2e", "budget": ".2e", "worst image": ".2f"}
STEP_FORMATS = {"latent MSE": ".2e", "PSNR (dB)": ".2f", "std of z_T": ".3f"}
PRESET_FORMATS = {
    **{"NFE": ".0f", "latent MSE": ".2e", "PSNR (dB)": ".2f", "std of z_T": ".3f", "images per second": ".2f"},
    **{"target animal": ".1%", "strict judge": ".1%", "background (dB)": ".2f", "edit's PSNR (dB)": ".2f"},
}


def errors(pipeline: InversionPipeline, scenes: Sequence[Scene], method: ReNoise) -> torch.Tensor:
    """Returns the latent MSE of each scene's round trip, float64 [B]."""
    inversion = invert_scenes(pipeline, scenes, method)
    difference = sample(pipeline.model, inversion) - encode(pipeline.model, scenes)
    return difference.double().square().flatten(1).mean(dim=1)


def methods(steps: int, calls: int) -> dict[str, ReNoise]:
    """Returns what is compared at equal calls: plain renoising, and ours with equal K and with a budget."""
    iterations = calls // steps - 1
    return {
        "plain": ReNoise(iterations),
        "equal K": ReNoise(iterations, warm_start=True, solver=Anderson()),
        "budget": ReNoise(warm_start=True, solver=Anderson(), max_nfe=calls),
    }


def solver_rows(preset: str, steps: int, calls: Sequence[int], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Returns a row for each number of calls."""
    pipeline = load({**read_tiny(preset), "num_inference_steps": steps})
    rows = []
    for count in calls:
        found = {name: errors(pipeline, scenes, method) for name, method in methods(steps, count).items()}
        means = {name: error.mean().item() for name, error in found.items()}
        row = {"preset": preset, "steps": steps, "calls": count, **means}
        row["of plain's"] = f"1/{means['plain'] / means['budget']:.1f}"
        row["worst image"] = (found["budget"] / found["plain"]).max().item()
        rows.append(row)
        print(markdown(pd.DataFrame([row]), SOLVER_FORMATS).splitlines()[2], flush=True)
    return rows


def preset_row(preset: str, scenes: Sequence[Scene], judges: Judges) -> dict[str, Any]:
    """Returns what a preset's inversion costs, how exact it is, and how its swaps of animals turn out."""
    model = read_tiny(preset)
    pipeline, editor = load(model), PromptEditor(guidance_scale=only_editor(model)["init_args"]["guidance_scale"])
    invert_scenes(pipeline, scenes[:2])  # what happens once is not measured
    started = time.process_time()
    inversion = invert_scenes(pipeline, scenes)
    seconds = time.process_time() - started
    found = evaluate_round_trip(pipeline.model, inversion, scenes)
    edits = evaluate_edits(editor, pipeline.model, inversion, scenes, swapped(scenes), judges)
    row = {
        "preset": preset,
        "NFE": found.nfe,
        "latent MSE": found.latent_mse,
        "PSNR (dB)": found.psnr,
        "std of z_T": found.latent_std,
        "images per second": len(scenes) / seconds,
        "target animal": edits.target_share,
        "strict judge": edits.strict_share,
        "background (dB)": edits.background_psnr,
        "edit's PSNR (dB)": edits.target_psnr,
    }
    print(markdown(pd.DataFrame([row]), PRESET_FORMATS).splitlines()[2], flush=True)
    return row


def step_row(checkpoint: str, spacing: str, steps: tuple[int, int, int], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Returns how exact a round trip by DDIM is whose inversion may have other steps than the sampler."""
    num_inversion_steps, num_inference_steps, iterations = steps
    pipeline = renoise.load(
        checkpoint,
        scheduler="DDIMScheduler",
        scheduler_options={"timestep_spacing": spacing},
        num_inference_steps=num_inference_steps,
        num_inversion_steps=num_inversion_steps,
        inversion=ReNoise(iterations),
    )
    found = evaluate_round_trip(pipeline.model, invert_scenes(pipeline, scenes), scenes)
    levels = [f"{schedule.steps[0].timestep:g}" for schedule in (pipeline.inversion_schedule, pipeline.schedule)]
    return {
        "spacing": spacing,
        "inversion / sampling / K": " / ".join(map(str, steps)),
        "ends / starts at t": " / ".join(levels),
        "calls": f"{found.nfe:.0f} + {num_inference_steps}",
        "latent MSE": found.latent_mse,
        "PSNR (dB)": found.psnr,
        "std of z_T": found.latent_std,
    }


@torch.no_grad()
def main(
    images: int = 64,
    presets: Sequence[str] = tuple(PAIRS),
    page: Path = Path("docs/solvers.md"),
    checkpoint: str = "data/models/tiny-sdxl",
    classifier: str = "data/models/scene-classifier",
    strict_classifier: str = "data/models/strict-classifier",
) -> None:
    """Measures every row and writes the tables into the page.

    Args:
        images: Number of unseen scenes.
        presets: Presets of the paper that are compared with our own.
        page: Its marked blocks are replaced.
        checkpoint: Model on which numbers of steps are compared.
        classifier: Folder of the model that recognizes animals.
        strict_classifier: Folder of the second one.
    """
    for name in ("solvers", "presets", "steps"):
        check_block(page, name)
    scenes, judges = unseen_scenes(images), Judges.from_pretrained(classifier, strict_classifier)
    pairs = [preset_row(each, scenes, judges) for name in presets for each in (name, PAIRS[name])]
    replace_block(page, "presets", markdown(pd.DataFrame(pairs), PRESET_FORMATS))
    rows = [row for (name, steps), calls in CALLS.items() for row in solver_rows(name, steps, calls, scenes)]
    replace_block(page, "solvers", markdown(pd.DataFrame(rows), SOLVER_FORMATS))
    trips = [step_row(checkpoint, spacing, steps, scenes) for spacing in SPACINGS for steps in STEPS]
    replace_block(page, "steps", markdown(pd.DataFrame(trips), STEP_FORMATS))


if __name__ == "__main__":
    auto_cli(main)
