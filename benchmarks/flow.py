"""Inversion on a flow-matching model, measured: `python -m benchmarks.flow` writes the tables of docs/flow.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli

from benchmarks.shared.evaluation import EditQuality, Judges, evaluate_edits, evaluate_round_trip
from benchmarks.shared.network_calls import network_calls
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.presets import load, read_tiny
from benchmarks.shared.scenes import invert_scenes, swapped, unseen_scenes
from benchmarks.shared.tables import markdown
from renoise import (
    DDIM,
    Anderson,
    Conditioning,
    DiffusionModel,
    DirectInversion,
    Editor,
    FireFlow,
    InversionPipeline,
    Inverter,
    Noising,
    PromptEditor,
    ReNoise,
    RFInversion,
    RFSolver,
    UniInv,
    instantiate,
)
from tiny_models.flow_matching import ABSENT_TOKENS
from tiny_models.repeated_token import RepeatedToken
from tiny_models.scenes import Scene

METHODS: dict[str, Inverter] = {
    "plain reversal": DDIM(),
    "ReNoise, K = 1": ReNoise(1),
    "ReNoise, K = 2": ReNoise(2),
    "warm start, K = 0": ReNoise(0, warm_start=True),
    "warm start, K = 1": ReNoise(1, warm_start=True),
    "warm start, Anderson, max_nfe 42": ReNoise(warm_start=True, solver=Anderson(), max_nfe=42),
    "warm start, Anderson, max_nfe 56": ReNoise(warm_start=True, solver=Anderson(), max_nfe=56),
}
"""The last one is the preset's."""
COMPARED: dict[str, tuple[Inverter, int]] = {
    "plain reversal": (DDIM(), 28),
    "Uni-Inv": (UniInv(), 28),
    "ReNoise, warm start, K = 0": (ReNoise(0, warm_start=True), 28),
    "ReNoise, warm start, K = 1": (ReNoise(1, warm_start=True), 14),
    "FireFlow": (FireFlow(), 27),
    "RF-Solver": (RFSolver(), 14),
    "RF-Inversion": (RFInversion(), 28),
    "direct inversion": (DirectInversion(), 28),
    "Uni-Inv, 56 steps": (UniInv(), 56),
    "ReNoise, warm start, K = 0, 56 steps": (ReNoise(0, warm_start=True), 56),
    "ReNoise, warm start, K = 1, 28 steps": (ReNoise(1, warm_start=True), 28),
    "ReNoise, warm start, Anderson, max_nfe 56": (ReNoise(warm_start=True, solver=Anderson(), max_nfe=56), 28),
    "FireFlow, 55 steps": (FireFlow(), 55),
    "RF-Solver, 28 steps": (RFSolver(), 28),
}
"""Methods with the number of steps at which inversion takes 28 calls, and then 56."""
GUIDANCE = (1.5, 2.0, 3.0)
"""Guidance scales of the edits."""
FLOW_EDITS = ((1.0, 1.5, 0.86), (1.0, 3.0, 0.66), (1.5, 3.0, 0.66))
"""Guidance of the source and of the target, and strength, of `FlowEdit`. The paper has 24 of 28 steps for FLUX."""
PAIRS: dict[str, Inverter] = {
    "`PromptSwap` over `ReNoise`, warm start, K = 0": ReNoise(0, warm_start=True),
    "`PromptSwap` over `FireFlow`": FireFlow(),
    "`PromptSwap` over `RFInversion`": RFInversion(),
    "`FlowEdit`": Noising(),
}
"""Editors and the inversion that they edit, at guidance 1.5."""
BLOCKS = ("inversions", "compared", "edits", "flow edits", "pairs")
"""The marked blocks of the page."""
INVERSION_FORMATS = {"NFE": ".0f", "latent MSE": ".1e", "PSNR (dB)": ".2f", "std of z_T": ".3f"}
INVERSION_FORMATS |= {"largest residual": ".1e", "of the step to the image": ".1e"}
COMPARED_FORMATS = {"calls": ".0f", "calls back": ".0f", "latent MSE": ".1e", "PSNR (dB)": ".2f", "std of z_T": ".3f"}
EDIT_FORMATS = {"strength": ".2f", "NFE": ".0f", "target animal": ".1%", "strict judge": ".1%"}
EDIT_FORMATS |= {"background (dB)": ".2f", "edit's PSNR (dB)": ".2f"}


def merge_absent_tokens(model: DiffusionModel) -> None:
    """Computes the tokens of zeros in place of T5's as one: the same up to rounding, in a quarter of the time.

    Args:
        model: Is changed.
    """
    encode, call = model.encode_prompts, model.call_network

    def encode_prompts(*arguments: Any, **options: Any) -> Conditioning:
        full = encode(*arguments, **options)
        length = full.prompt_embeds.shape[1] - ABSENT_TOKENS + 1
        negative = full.negative_prompt_embeds
        return replace(
            full,
            prompt_embeds=full.prompt_embeds[:, :length],
            negative_prompt_embeds=None if negative is None else negative[:, :length],
        )

    def call_network(*arguments: Any) -> torch.Tensor:
        with RepeatedToken(ABSENT_TOKENS):
            return call(*arguments)

    vars(model).update(encode_prompts=encode_prompts, call_network=call_network)


def inversion_row(pipeline: InversionPipeline, name: str, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Returns what a method costs and how exact it is."""
    inversion = invert_scenes(pipeline, scenes, METHODS[name])
    found = evaluate_round_trip(pipeline.model, inversion, scenes)
    assert inversion.step_residuals is not None
    *others, last = inversion.step_residuals.mean(dim=1).tolist()
    return {
        "method": name,
        "NFE": found.nfe,
        "latent MSE": found.latent_mse,
        "PSNR (dB)": found.psnr,
        "std of z_T": found.latent_std,
        "largest residual": max(others),
        "of the step to the image": last,
    }


def compared_row(name: str, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Returns how exact a method of `COMPARED` is, and what it costs in both directions."""
    inverter, steps = COMPARED[name]
    pipeline = load(read_tiny("sd35") | {"num_inference_steps": steps})
    merge_absent_tokens(pipeline.model)
    inversion = invert_scenes(pipeline, scenes, inverter)
    with network_calls(pipeline.model.network, lambda *_: None) as calls:
        found = evaluate_round_trip(pipeline.model, inversion, scenes)
    return {
        "method": name,
        "steps": steps,
        "calls": found.nfe,
        "calls back": len(calls),
        "latent MSE": found.latent_mse,
        "PSNR (dB)": found.psnr,
        "std of z_T": found.latent_std,
    }


def edit_rows(pipeline: InversionPipeline, scenes: Sequence[Scene], judges: Judges) -> list[dict[str, Any]]:
    """Returns how swaps of animals turn out over the preset's inversion, for each guidance scale."""
    inversion, rows = invert_scenes(pipeline, scenes), []
    for guidance_scale in GUIDANCE:
        edits = evaluate_edits(
            PromptEditor(guidance_scale=guidance_scale), pipeline.model, inversion, scenes, swapped(scenes), judges
        )
        rows.append({"guidance": guidance_scale} | quality_row(edits))
    return rows


def flow_edit_rows(pipeline: InversionPipeline, scenes: Sequence[Scene], judges: Judges) -> list[dict[str, Any]]:
    """Returns how swaps of animals by `FlowEdit` turn out, which needs no inversion, for each of its options."""
    inversion, rows = invert_scenes(pipeline, scenes, Noising()), []
    for source, target, strength in FLOW_EDITS:
        editor = flow_edit(source, target, strength)
        edits = evaluate_edits(editor, pipeline.model, inversion, scenes, swapped(scenes), judges)
        settings = {"source guidance": source, "guidance": target, "strength": strength, "NFE": edits.nfe}
        rows.append(settings | quality_row(edits))
    return rows


def flow_edit(source: float, target: float, strength: float) -> Editor:
    """Returns `FlowEdit` with guidance of the source and of the target."""
    options = {"guidance_scale": target, "source_guidance_scale": source, "strength": strength}
    return instantiate(Editor, {"class_path": "FlowEdit", "init_args": options})


def pair_rows(pipeline: InversionPipeline, scenes: Sequence[Scene], judges: Judges) -> list[dict[str, Any]]:
    """Returns how swaps of animals turn out for each of `PAIRS`."""
    rows = []
    for name, inverter in PAIRS.items():
        editor = flow_edit(*FLOW_EDITS[0]) if isinstance(inverter, Noising) else PromptEditor(guidance_scale=1.5)
        inversion = invert_scenes(pipeline, scenes, inverter)
        edits = evaluate_edits(editor, pipeline.model, inversion, scenes, swapped(scenes), judges)
        rows.append({"edit": name} | quality_row(edits))
    return rows


def quality_row(edits: EditQuality) -> dict[str, float]:
    """Returns the columns of the quality of edits."""
    return {
        "target animal": edits.target_share,
        "strict judge": edits.strict_share,
        "background (dB)": edits.background_psnr,
        "edit's PSNR (dB)": edits.target_psnr,
    }


@torch.no_grad()
def main(
    images: int = 64,
    page: Path = Path("docs/flow.md"),
    classifier: str = "data/models/scene-classifier",
    strict_classifier: str = "data/models/strict-classifier",
) -> None:
    """Measures every row and writes the tables into the page.

    Args:
        images: Number of unseen scenes.
        page: Markdown page with the marked blocks of `BLOCKS`.
        classifier: Folder of the classifier that judges edits.
        strict_classifier: Folder of the stricter one.
    """
    for block in BLOCKS:
        check_block(page, block)
    scenes, pipeline = unseen_scenes(images), load(read_tiny("sd35"))
    merge_absent_tokens(pipeline.model)
    rows = [inversion_row(pipeline, name, scenes) for name in METHODS]
    replace_block(page, "inversions", markdown(pd.DataFrame(rows), INVERSION_FORMATS))
    rows = [compared_row(name, scenes) for name in COMPARED]
    replace_block(page, "compared", markdown(pd.DataFrame(rows), COMPARED_FORMATS))
    judges = Judges.from_pretrained(classifier, strict_classifier)
    replace_block(page, "edits", markdown(pd.DataFrame(edit_rows(pipeline, scenes, judges)), EDIT_FORMATS))
    for block, rows_of in {"flow edits": flow_edit_rows, "pairs": pair_rows}.items():
        replace_block(page, block, markdown(pd.DataFrame(rows_of(pipeline, scenes, judges)), EDIT_FORMATS))


if __name__ == "__main__":
    auto_cli(main)
