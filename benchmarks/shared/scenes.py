"""The scenes that everything is measured on, as images, prompts and inversions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from renoise import Conditioning, DiffusionModel, EditRequest, Inversion, InversionPipeline, Inverter
from tiny_models.data import to_pixels
from tiny_models.scenes import Scene, random_scenes, with_other_subjects

UNSEEN_SEED = 64
"""Seed of the scenes that are measured. Models are trained on scenes of another seed."""
SWAP_SEED = 1
"""Seed of the animals that replace theirs in edits."""


def unseen_scenes(count: int) -> list[Scene]:
    """Returns scenes that no model was trained on."""
    return random_scenes(count, UNSEEN_SEED)


def swapped(scenes: Sequence[Scene]) -> list[Scene]:
    """Returns the same scenes with other animals: the correct results of the edits."""
    return list(with_other_subjects(list(scenes), SWAP_SEED))


def images_of(scenes: Sequence[Scene]) -> torch.Tensor:
    """Returns the scenes as images, float32 [B, 3, 64, 64] in [0, 1]."""
    return to_pixels(scene.draw() for scene in scenes).float() / 255


def names_of(scenes: Sequence[Scene]) -> list[str]:
    """Returns the names that the scenes' random numbers depend on."""
    return [str(index) for index in range(len(scenes))]


@torch.no_grad()
def prompts_of(model: DiffusionModel, scenes: Sequence[Scene]) -> tuple[Conditioning, list[str]]:
    """Returns the conditioning on the scenes' captions without guidance, and the scenes' names."""
    return model.encode_prompts([scene.caption for scene in scenes]), names_of(scenes)


@torch.no_grad()
def encode(model: DiffusionModel, scenes: Sequence[Scene]) -> torch.Tensor:
    """Returns the scenes' latents z_0, [B, C, h, w]."""
    return model.encode_images(images_of(scenes).to(model.device, model.state_dtype))


@torch.no_grad()
def invert_scenes(
    pipeline: InversionPipeline,
    scenes: Sequence[Scene],
    inversion: Inverter | None = None,
    guidance_scale: float = 1.0,
    keep_trajectory: bool = False,
) -> Inversion:
    """Inverts scenes under their captions, in one batch.

    Args:
        pipeline: Model and sampler.
        scenes: B scenes.
        inversion: The inversion method. None takes the pipeline's.
        guidance_scale: During inversion.
        keep_trajectory: Whether to keep the latents of every level.
    """
    conditioning = pipeline.model.encode_prompts([scene.caption for scene in scenes], guidance_scale)
    latents = encode(pipeline.model, scenes)
    return pipeline.invert_latents(latents, conditioning, names_of(scenes), keep_trajectory, inversion)


def swap_requests(scenes: Sequence[Scene], targets: Sequence[Scene]) -> list[EditRequest]:
    """Returns requests to edit scenes into others, with their captions as prompts."""
    rows = zip(names_of(scenes), scenes, targets, strict=True)
    return [EditRequest(name, scene.caption, target.caption) for name, scene, target in rows]
