from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.evaluation import SWAP_SEED, UNSEEN_SEED, images_of, prompts_of
from diffusers import DDIMScheduler
from renoise_plugins.edit_friendly import EditFriendly

from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import EditRequest, check_needs
from renoise.errors import InputError
from renoise.inversion.edit_friendly import EditFriendlyInverter
from renoise.models.base import DiffusionModel
from tiny_models.data import labels
from tiny_models.judge import SceneJudge
from tiny_models.scenes import random_scenes, with_other_subjects

SCENES = random_scenes(4, UNSEEN_SEED)
TARGETS = list(with_other_subjects(SCENES, SWAP_SEED))


@torch.no_grad()
def test_it_swaps_the_animal_and_keeps_more_of_the_image_the_weaker_it_is(model: DiffusionModel, tiny_sd: Path) -> None:
    scheduler = DDIMScheduler.from_config(model.pipeline.scheduler.config, timestep_spacing="trailing")
    schedule = Schedule.from_scheduler(scheduler, 10, eta=1.0)
    images = images_of(SCENES)
    inverter = EditFriendlyInverter(model, schedule, Renoising(0), keep_trajectory=True)
    inversion = inverter.invert(model.encode_images(images), *prompts_of(model, SCENES))
    requests = [
        EditRequest(str(row), source.caption, target.caption)
        for row, (source, target) in enumerate(zip(SCENES, TARGETS, strict=True))
    ]
    edited = {
        strength: EditFriendly(strength=strength).edit(model, inversion, requests) for strength in (0.3, 0.6, 1.0)
    }
    changes = [float((each - images).square().mean()) for each in edited.values()]
    assert changes == sorted(changes)
    judge = SceneJudge.from_pretrained(tiny_sd.parent / "scene-classifier")
    assert (judge(edited[1.0]).subjects == labels(TARGETS)[:, 0]).float().mean() >= 0.75


def test_a_sampler_without_noise_is_refused(model: DiffusionModel) -> None:
    for strength in (0.64, 1.0):
        editor = EditFriendly(strength=strength)
        with pytest.raises(InputError, match=r"^EditFriendly needs a sampler that draws noise.*model\.eta"):
            check_needs(editor, model, Schedule.from_scheduler(model.scheduler, 4))
        check_needs(editor, model, Schedule.from_scheduler(model.scheduler, 4, eta=1.0))


def test_it_asks_for_the_trajectory_as_it_begins_at_a_cleaner_level() -> None:
    assert EditFriendly().needs == {"trajectory", "noise"}
    assert EditFriendly(strength=1.0).needs == {"noise"}
