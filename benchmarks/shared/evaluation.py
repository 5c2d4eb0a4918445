"""How well inverted scenes are reconstructed, and how well an editing method swaps their animals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.shared.network_calls import batch_size, network_calls
from benchmarks.shared.scenes import encode, images_of, swap_requests
from renoise import (
    DiffusionModel,
    Editor,
    InputError,
    Inversion,
    masked_psnr,
    masked_ssim,
    mean_squared_error,
    psnr,
    sample,
    ssim,
    structure_distance,
)
from tiny_models.data import labels
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene


@dataclass(frozen=True)
class RoundTrip:
    """Means over inverted and reconstructed images.

    Args:
        psnr: Of the reconstruction, in dB.
        psnr_vae: Of the autoencoder's own round trip, in dB. It is the ceiling.
        ssim: Of the reconstruction, in [-1, 1].
        latent_mse: Mean squared error of the reconstructed z_0.
        nfe: Network evaluations that inverting one image took.
        latent_mean: Mean of z_T, in units of the sampler's initial noise. Noise has 0.
        latent_std: Standard deviation of z_T, in the same units. Noise has 1.
    """

    psnr: float
    psnr_vae: float
    ssim: float
    latent_mse: float
    nfe: float
    latent_mean: float
    latent_std: float


class Judges(NamedTuple):
    """Two independent classifiers of the results.

    Args:
        first: Names the most probable animal, and yields the features that layouts are compared by.
        strict: Names no animal that is less than a share of what it sees.
    """

    first: SceneJudge
    strict: SceneJudge

    @classmethod
    def from_pretrained(cls, classifier: str, strict_classifier: str) -> Judges:
        """Loads both from folders in transformers layout."""
        return cls(SceneJudge.from_pretrained(classifier), SceneJudge.from_pretrained(strict_classifier))


@dataclass(frozen=True)
class EditQuality:
    """Means over edited images.

    Args:
        target_share: Share of edits that show the animal asked for, in [0, 1].
        strict_share: The same by the strict judge, to which an unfinished edit shows no animal.
        target_psnr: Of the edit against the scene drawn with that animal, in dB.
        background_psnr: Of the edit against the image, where neither animal is, in dB.
        background_ssim: Of the same pixels, in [-1, 1].
        structure_distance: Between the layouts of edit and image, see `metrics.structure_distance`.
        nfe: Network evaluations that editing one image took. Gradients are not counted.
        seconds: Processor time that editing one image took, of all threads together.
        inversion_nfe: Network evaluations that inverting one image took.
        refused_share: Share of images without an edit: the inversion failed, or the editing method refused them.
    """

    target_share: float
    strict_share: float
    target_psnr: float
    background_psnr: float
    background_ssim: float
    structure_distance: float
    nfe: float
    seconds: float
    inversion_nfe: float
    refused_share: float = 0.0


@torch.no_grad()
def evaluate_round_trip(model: DiffusionModel, inversion: Inversion, scenes: Sequence[Scene]) -> RoundTrip:
    """Reconstructs scenes in one batch and compares.

    Args:
        model: The model that the scenes were inverted with.
        inversion: Of the scenes.
        scenes: B scenes.
    """
    images, latents = images_of(scenes).to(model.device), encode(model, scenes)
    reconstructed = sample(model, inversion)
    decoded = model.decode_latents(reconstructed)
    noise = (inversion.latents / inversion.schedule.init_noise_sigma).flatten(1)
    part = {
        "psnr": psnr(decoded, images),
        "psnr_vae": psnr(model.decode_latents(latents), images),
        "ssim": ssim(decoded, images),
        "latent_mse": mean_squared_error(reconstructed, latents),
        "nfe": inversion.nfe,
        "latent_mean": noise.mean(dim=1),
        "latent_std": noise.std(dim=1),
    }
    return RoundTrip(**_means([part]))


@torch.no_grad()
def evaluate_edits(
    editor: Editor,
    model: DiffusionModel,
    inversion: Inversion,
    scenes: Sequence[Scene],
    targets: Sequence[Scene],
    judges: Judges,
    edited_together: int = 32,
) -> EditQuality:
    """Edits scenes into others and compares.

    Args:
        editor: The editing method.
        model: The model that the scenes were inverted with.
        inversion: Of the scenes, with all that the editor needs.
        scenes: Scenes that were inverted under their captions.
        targets: The same scenes with other animals.
        judges: Recognize the animals.
        edited_together: Largest batch.

    Raises:
        InputError: None of the scenes can be edited.
    """
    requests = swap_requests(scenes, targets)
    refusals = [inversion.failures.get(index) or editor.refusal(request) for index, request in enumerate(requests)]
    accepted = [index for index, refusal in enumerate(refusals) if refusal is None]
    if not accepted:
        raise InputError(f"{type(editor).__name__} can edit none of the scenes: {refusals[0]}")
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(accepted), edited_together):
        batch = accepted[start : start + edited_together]
        part = inversion.select(batch)
        with network_calls(model.network, batch_size) as calls:
            started = time.process_time()  # other programs do not count
            edited = editor.edit(model, part, [requests[index] for index in batch]).float().cpu()
            seconds = time.process_time() - started
        parts.append(
            compare_edits(edited, [scenes[index] for index in batch], [targets[index] for index in batch], judges)
        )
        parts[-1]["nfe"] = torch.full((len(batch),), sum(calls) / len(batch))
        parts[-1]["seconds"] = torch.full((len(batch),), seconds / len(batch))
        parts[-1]["inversion_nfe"] = part.nfe
    return EditQuality(**_means(parts), refused_share=1 - len(accepted) / len(scenes))


def compare_edits(
    edited: torch.Tensor, scenes: Sequence[Scene], targets: Sequence[Scene], judges: Judges
) -> dict[str, torch.Tensor]:
    """Returns the quality of each edit, [B] each, by the names of `EditQuality`.

    Args:
        edited: float32 [B, 3, 64, 64] in [0, 1], on the CPU.
        scenes: The scenes that were edited.
        targets: The scenes that were asked for.
        judges: Recognize the animals.
    """
    images, mask = images_of(scenes), background(scenes, targets)
    wanted = labels(list(targets))[:, 0]
    return {
        "target_share": judges.first(edited).subjects.cpu() == wanted,
        "strict_share": judges.strict(edited).subjects.cpu() == wanted,
        "target_psnr": psnr(edited, images_of(targets)),
        "background_psnr": masked_psnr(edited, images, mask),
        "background_ssim": masked_ssim(edited, images, mask),
        "structure_distance": structure_distance(judges.first.features(edited), judges.first.features(images)),
    }


def background(scenes: Sequence[Scene], targets: Sequence[Scene]) -> torch.Tensor:
    """Returns 1 where neither the scene's animal nor the target's covers or touches a pixel, else 0, [B, 64, 64].

    Pixels that touch an animal contain some of it, because scenes are drawn larger and shrunk. With them, the correct
    edit itself would have 33 dB, about what the autoencoder loses.
    """
    covered = [np.maximum(scene.mask(), target.mask()) for scene, target in zip(scenes, targets, strict=True)]
    touched = F.max_pool2d(torch.from_numpy(np.stack(covered)), kernel_size=3, stride=1, padding=1)
    return (touched == 0).float()


def _means(parts: Iterable[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Returns the means of per-image values [B] over all parts."""
    parts = list(parts)
    return {name: torch.cat([part[name].cpu().double() for part in parts]).mean().item() for name in parts[0]}
