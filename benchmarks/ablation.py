"""The paper's ablation on the shipped models: `python -m benchmarks.ablation` fills docs/ablation.md.

It takes each preset apart: plain reversal of the sampler, more and more renoising iterations, averaging, edit
regularization, noise correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import auto_cli

from benchmarks.shared.evaluation import EditQuality, Judges, RoundTrip, evaluate_edits, evaluate_round_trip
from benchmarks.shared.kept_rows import KeptRows, fingerprint
from benchmarks.shared.pages import check_block, replace_block
from benchmarks.shared.presets import load, only_editor, read_tiny
from benchmarks.shared.scenes import invert_scenes, swapped, unseen_scenes
from benchmarks.shared.tables import markdown
from renoise import Inversion, InversionPipeline, Inverter, NoiseCorrection, PromptEditor, ReNoise
from tiny_models.scenes import Scene

PRESETS = ("sd14", "sdxl", "sdxl_turbo", "lcm_lora")
KL_WEIGHT = 20.0
"""λ of L_KL where it replaces L_patch-KL, as in pix2pix-zero."""
PARTIAL_STRENGTH = 0.75
"""Of edits that start from the trajectory, where fewer succeed, and rows differ."""
OF_EDITS = ("target_share", "strict_share", "target_psnr")
"""What a row shows of the edits at full strength, by the names of `EditQuality`."""
FEW_STEPS = 10
"""Models with more steps are not edited at that strength: nearly every edit succeeds there, too."""
COLUMNS = {
    "latent_mse": "latent MSE",
    "psnr": "PSNR (dB)",
    "nfe": "NFE",
    "latent_mean": "mean of z_T",
    "latent_std": "std of z_T",
    "target_share": "target animal",
    "strict_share": "strict judge",
    "target_psnr": "edit's PSNR (dB)",
    "partial_share": "at strength 0.75",
    "partial_strict_share": "strict judge there",
}
FORMATS = {
    "latent MSE": ".2e",
    "PSNR (dB)": ".2f",
    "NFE": ".0f",
    "mean of z_T": "+.3f",
    "std of z_T": ".3f",
    "target animal": ".1%",
    "strict judge": ".1%",
    "edit's PSNR (dB)": ".2f",
    "at strength 0.75": ".1%",
    "strict judge there": ".1%",
}


@dataclass(frozen=True)
class AblationRow(RoundTrip):
    """What one variant shows.

    Args:
        target_share: See `EditQuality`.
        strict_share: Likewise.
        target_psnr: Likewise.
        partial_share: `target_share` of edits at `PARTIAL_STRENGTH`. None with more than `FEW_STEPS` steps.
        partial_strict_share: `strict_share` of the same.
    """

    target_share: float
    strict_share: float
    target_psnr: float
    partial_share: float | None = None
    partial_strict_share: float | None = None


@dataclass(frozen=True)
class Bench:
    """A loaded preset and the scenes that its variants are measured on.

    Args:
        model: `model` of the preset.
        pipeline: The same, loaded.
        scenes: Unseen scenes.
        judges: Recognize the animals.
        kept: Rows that were measured before.
    """

    model: Mapping[str, Any]
    pipeline: InversionPipeline
    scenes: Sequence[Scene]
    judges: Judges
    kept: KeptRows[AblationRow]

    def rows(self, variants: Mapping[str, ReNoise]) -> dict[str, AblationRow]:
        """Measures variants of the method, or takes the rows that were measured before.

        Args:
            variants: Inversion methods by the name of their row.
        """
        weights = fingerprint(filter(None, [self.model["checkpoint"], self.model.get("lora")]))
        rows = {}
        for name, variant in variants.items():
            description = [len(self.scenes), weights, self.model, variant]
            rows[name] = self.kept.get(description, partial(self._measure, variant))
            print(table({name: rows[name]}).splitlines()[2], flush=True)
        return rows

    def _measure(self, variant: ReNoise) -> AblationRow:
        """Inverts the scenes, reconstructs them and swaps their animals."""
        inversion = invert_scenes(self.pipeline, self.scenes, variant, keep_trajectory=True)
        round_trip = asdict(evaluate_round_trip(self.pipeline.model, inversion, self.scenes))
        edits = self._edits(inversion, strength=1.0)
        row = AblationRow(**round_trip, **{name: getattr(edits, name) for name in OF_EDITS})
        if len(inversion.schedule) > FEW_STEPS:
            return row
        edits = self._edits(inversion, PARTIAL_STRENGTH)
        return replace(row, partial_share=edits.target_share, partial_strict_share=edits.strict_share)

    def _edits(self, inversion: Inversion, strength: float) -> EditQuality:
        """Swaps the animals of the inverted scenes."""
        guidance_scale = only_editor(self.model)["init_args"]["guidance_scale"]
        editor = PromptEditor(guidance_scale=guidance_scale, strength=strength)
        targets = swapped(self.scenes)
        return evaluate_edits(editor, self.pipeline.model, inversion, self.scenes, targets, self.judges)


def variants(whole: Inverter) -> dict[str, ReNoise]:
    """Returns the rows of the paper's ablation by name, from plain reversal to a preset's whole ReNoise method."""
    iterations, regularization = whole.init_args["iterations"], whole.init_args["regularization"]
    found = {"plain reversal (K = 0)": ReNoise(0)}
    for number in sorted({1, 4, iterations}):
        found[f"K = {number}"] = ReNoise(number)
    averaged = ReNoise(iterations, whole.init_args["averaging_weights"])
    found[f"K = {iterations}, averaging"] = averaged
    pair_alone = replace(regularization, lambda_patch_kl=0.0)
    found["+ L_pair"] = _changed(averaged, regularization=pair_alone)
    found["+ L_pair, L_KL"] = _changed(averaged, regularization=replace(pair_alone, lambda_kl=KL_WEIGHT))
    found["+ L_pair, L_patch-KL"] = regularized = _changed(averaged, regularization=regularization)
    correction = whole.init_args["noise_correction"]
    if correction is not None:
        for name, uncorrected in (("averaging, no losses", averaged), ("both losses", regularized)):
            found[f"{name}, override"] = _changed(uncorrected, noise_correction=NoiseCorrection("override"))
            found[f"{name}, optimize"] = _changed(uncorrected, noise_correction=replace(correction, method="optimize"))
    return found


def _changed(method: ReNoise, **init_args: Any) -> ReNoise:
    return ReNoise(**{**method.init_args, **init_args})


def table(rows: Mapping[str, AblationRow]) -> str:
    """Returns the rows in Markdown, without columns that were not measured."""
    cells = pd.DataFrame([asdict(row) for row in rows.values()])[list(COLUMNS)].rename(columns=COLUMNS)
    cells = cells.dropna(axis="columns", how="all")
    cells.insert(0, "variant", list(rows))
    return markdown(cells, FORMATS)


def block(rows: Mapping[str, AblationRow]) -> str:
    """Returns what the page shows of one preset, in Markdown."""
    ceiling = next(iter(rows.values())).psnr_vae
    return f"{table(rows)}\nThe autoencoder's own round trip: {ceiling:.2f} dB.\n"


def main(
    images: int = 64,
    presets: Sequence[str] = PRESETS,
    page: Path = Path("docs/ablation.md"),
    kept: Path = Path("out/ablation.jsonl"),
    classifier: str = "data/models/scene-classifier",
    strict_classifier: str = "data/models/strict-classifier",
) -> None:
    """Measures every row and writes the tables into the page.

    Args:
        images: Number of unseen scenes.
        presets: Names of presets that have an overlay in configs/tiny.
        page: Its marked blocks are replaced.
        kept: Rows measured so far, by settings and weights. An interrupted run continues from them. Delete the file
            after a change of the method's code.
        classifier: Folder of the model that recognizes animals.
        strict_classifier: Folder of the second, to which unfinished edits show no animal.
    """
    settings = {name: read_tiny(name) for name in presets}
    for name in presets:
        check_block(page, name)  # before hours of measuring
    judges, scenes = Judges.from_pretrained(classifier, strict_classifier), unseen_scenes(images)
    rows = KeptRows(kept, AblationRow)
    for name, model in settings.items():
        print(f"{name}, {images} unseen scenes", flush=True)
        bench = Bench(model, load(model), scenes, judges, rows)
        replace_block(page, name, block(bench.rows(variants(bench.pipeline.inversion))))


if __name__ == "__main__":
    auto_cli(main)
