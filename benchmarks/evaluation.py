"""How well an inverter brings unseen scenes back, and how well they can be edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from renoise.inversion.base import Inversion, Inverter, sample
from renoise.metrics import functional as metrics
from renoise.models.base import Conditioning, DiffusionModel
from tiny_models.data import labels, to_pixels
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene, with_other_subjects

UNSEEN_SEED = 64
"""The stream of scenes that everything is measured on; models train on another."""
SWAP_SEED = 1
"""The stream of the subjects that they are swapped for."""


@dataclass(frozen=True)
class PromptSwapping:
    """The edit that inversions are judged by: another subject in the prompt.

    Args:
        judge: says which subject an image shows.
        guidance_scale: of the edit.
    """

    judge: SceneJudge
    guidance_scale: float


@dataclass(frozen=True)
class Evaluation:
    """Means over images.

    Args:
        psnr: of the reconstruction against the image, in dB.
        psnr_vae: the autoencoder's own round trip, the ceiling.
        ssim: of the reconstruction, in [-1, 1].
        latent_mse: of z_0 against what comes back.
        nfe: that inverting one image took.
        latent_mean: of z_T over its standard deviation in sampling; noise has 0.
        latent_std: likewise; noise has 1.
        target_share: edits that show the subject asked for, in [0, 1]; None where nothing was edited.
        target_psnr: of the edits against the scenes drawn with that subject, in dB.
    """

    psnr: float
    psnr_vae: float
    ssim: float
    latent_mse: float
    nfe: float
    latent_mean: float
    latent_std: float
    target_share: float | None = None
    target_psnr: float | None = None


@torch.no_grad()
def evaluate(
    inverter: Inverter,
    scenes: Sequence[Scene],
    swapping: PromptSwapping | None = None,
    prompts: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Inverts, rebuilds and edits scenes at guidance 1, in the model's precision.

    Args:
        inverter: to be judged.
        scenes: that its model did not train on.
        swapping: the edit; None makes none.
        prompts: to invert under; None takes the scenes' captions.
        batch_size: scenes side by side.
    """
    prompts = prompts or [scene.caption for scene in scenes]
    targets = list(with_other_subjects(list(scenes), SWAP_SEED))
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(scenes), batch_size):
        rows = slice(start, start + batch_size)
        images = images_of(scenes[rows]).to(inverter.model.device)
        latents = inverter.model.encode_images(images.to(inverter.model.state_dtype))
        names = [str(row) for row in range(len(scenes))[rows]]
        inversion = inverter.invert(latents, inverter.model.encode_prompts(list(prompts[rows])), names)
        parts.append(_round_trip(inverter.model, images, latents, inversion))
        if swapping is not None:
            parts[-1] |= _swapped(inverter.model, inversion, targets[rows], swapping)
    means = {name: torch.cat([part[name].cpu().double() for part in parts]).mean().item() for name in parts[0]}
    return Evaluation(**means)


def _round_trip(
    model: DiffusionModel, images: torch.Tensor, latents: torch.Tensor, inversion: Inversion
) -> dict[str, torch.Tensor]:
    """What the inversion of a batch is worth by itself, each [B]."""
    rebuilt = sample(model, inversion)
    decoded = model.decode_latents(rebuilt)
    noise = (inversion.latents / inversion.schedule.init_noise_sigma).flatten(1)
    return {
        "psnr": metrics.psnr(decoded, images),
        "psnr_vae": metrics.psnr(model.decode_latents(latents), images),
        "ssim": metrics.ssim(decoded, images),
        "latent_mse": metrics.mean_squared_error(rebuilt, latents),
        "nfe": inversion.nfe,
        "latent_mean": noise.mean(dim=1),
        "latent_std": noise.std(dim=1),
    }


def _swapped(
    model: DiffusionModel, inversion: Inversion, targets: list[Scene], swapping: PromptSwapping
) -> dict[str, torch.Tensor]:
    """How near the edits of a batch come to the scenes with the other subjects, each [B]."""
    captions = [scene.caption for scene in targets]
    conditioning = model.encode_prompts(captions, swapping.guidance_scale)
    edited = model.decode_latents(sample(model, inversion, conditioning))
    return {
        "target_share": swapping.judge(edited).subjects.cpu() == labels(targets)[:, 0],
        "target_psnr": metrics.psnr(edited, images_of(targets).to(edited.device)),
    }


def images_of(scenes: Sequence[Scene]) -> torch.Tensor:
    """[B, 3, 64, 64] in [0, 1]."""
    return to_pixels(scene.draw() for scene in scenes).float() / 255


def prompts_of(model: DiffusionModel, scenes: Sequence[Scene]) -> tuple[Conditioning, list[str]]:
    """The conditioning and the names that `Inverter.invert` asks for."""
    return model.encode_prompts([scene.caption for scene in scenes]), [str(row) for row in range(len(scenes))]
