from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler
from helpers.edits import invert
from renoise_plugins.edit_friendly import EditFriendly

from benchmarks.shared.scenes import encode, images_of, swap_requests, swapped, unseen_scenes
from renoise.core.schedule import Schedule
from renoise.inversion.edit_friendly import EditFriendlyInversion
from renoise.models.base import DiffusionModel
from tiny_models.data import labels
from tiny_models.judge import SceneJudge

SCENES = unseen_scenes(4)
TARGETS = swapped(SCENES)


@torch.no_grad()
def test_it_swaps_the_animal_and_keeps_more_of_the_image_at_less_strength(model: DiffusionModel, tiny_sd: Path) -> None:
    scheduler = DDIMScheduler.from_config(model.scheduler.config, timestep_spacing="trailing")
    inversion = invert(
        model,
        EditFriendlyInversion(iterations=0),
        schedule=Schedule.from_scheduler(scheduler, 10, eta=1.0),
        prompts=[scene.caption for scene in SCENES],
        latents=encode(model, SCENES),
    )
    requests = swap_requests(SCENES, TARGETS)
    edited = {
        strength: EditFriendly(strength=strength).edit(model, inversion, requests) for strength in (0.3, 0.6, 1.0)
    }
    changes = [float((images - images_of(SCENES)).square().mean()) for images in edited.values()]
    assert changes == sorted(changes)
    judge = SceneJudge.from_pretrained(tiny_sd.parent / "scene-classifier")
    assert (judge(edited[1.0]).subjects == labels(TARGETS)[:, 0]).float().mean() >= 0.75
