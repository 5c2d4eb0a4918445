from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.edit_evaluation import background, compared, evaluate_editor
from benchmarks.evaluation import SWAP_SEED, UNSEEN_SEED, images_of, prompts_of
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion, Inverter
from renoise.metrics import functional as metrics
from renoise.models.base import DiffusionModel
from tiny_models.judge import SceneJudge
from tiny_models.scenes import random_scenes, with_other_subjects

REPOSITORY = Path(__file__).resolve().parents[2]
SCENES = random_scenes(3, UNSEEN_SEED)
TARGETS = list(with_other_subjects(SCENES, SWAP_SEED))


class Oracle(Editor):
    """Draws the right answers, with one row of the network for each image and one more for each batch."""

    def __init__(self, refused: str = "nothing") -> None:
        self.refused, self.batches = refused, list[int]()

    def refusal(self, request: EditRequest) -> str | None:
        return "not this one" if self.refused in request.prompt else None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        assert torch.equal(inversion.latents, inversion.trajectory[0])
        self.batches.append(len(requests))
        rows = len(requests) + 1
        embeddings = inversion.conditioning.prompt_embeds[:1].expand(rows, -1, -1)
        latents = torch.zeros(rows, *inversion.latents.shape[1:])
        model.unet(sample=latents, timestep=1, encoder_hidden_states=embeddings)
        by_caption = {scene.caption: scene for scene in TARGETS}
        return images_of([by_caption[request.edit_prompt or ""] for request in requests])


@pytest.fixture(scope="module")
def inversion(model: DiffusionModel) -> Inversion:
    inverter = Inverter(model, Schedule.from_scheduler(model.scheduler, 2), Renoising(0), keep_trajectory=True)
    with torch.no_grad():
        latents = model.encode_images(images_of(SCENES))
    return inverter.invert(latents, *prompts_of(model, SCENES))


@pytest.fixture(scope="module")
def judge() -> SceneJudge:
    return SceneJudge.from_pretrained(REPOSITORY / "data/models/scene-classifier")


def test_the_right_answers_are_perfect_edits(model: DiffusionModel, inversion: Inversion, judge: SceneJudge) -> None:
    editor = Oracle()
    found = evaluate_editor(editor, model, inversion, SCENES, TARGETS, judge, batch_size=2)
    assert editor.batches == [2, 1]
    assert found.target_share == 1
    assert found.target_psnr == float("inf")
    images, answers = images_of(SCENES), images_of(TARGETS)
    expected = metrics.masked_psnr(answers, images, background(SCENES, TARGETS)).mean().item()
    assert found.background_psnr == pytest.approx(expected, rel=1e-4)
    assert found.background_psnr > 60, "of the background, an animal swap leaves everything"
    assert found.background_ssim > 0.999
    assert found.structure_distance > 0.01, "another animal is another layout"
    assert found.nfe == pytest.approx((3 + 2) / 3)
    assert found.inversion_rows == 2
    assert found.seconds > 0
    assert found.refused_share == 0


def test_images_without_an_edit_have_no_say_but_are_told_of(
    model: DiffusionModel, inversion: Inversion, judge: SceneJudge
) -> None:
    editor = Oracle(refused=SCENES[0].caption)
    failed = inversion.select(range(3))
    failed.failures = {1: "the latents turned NaN"}
    found = evaluate_editor(editor, model, failed, SCENES, TARGETS, judge)
    assert editor.batches == [1]
    assert found.refused_share == pytest.approx(2 / 3)
    assert found.target_share == 1
    with pytest.raises(InputError, match="Oracle can edit none of the scenes: not this one"):
        evaluate_editor(Oracle(refused="background"), model, inversion, SCENES, TARGETS, judge)


def test_an_image_left_alone_keeps_everything_and_is_no_edit(judge: SceneJudge) -> None:
    found = compared(images_of(SCENES), SCENES, TARGETS, judge)
    assert not found["target_share"].any()
    assert found["background_psnr"].isinf().all()
    torch.testing.assert_close(found["background_ssim"], torch.ones(3))
    assert found["structure_distance"].abs().max() < 1e-6


def test_structure_tells_a_moved_scene_from_a_repainted_animal(judge: SceneJudge) -> None:
    scenes = random_scenes(32, UNSEEN_SEED)
    features = judge.features(images_of(scenes))
    assert features.shape == (32, 24, 16, 16)
    swapped = judge.features(images_of(list(with_other_subjects(scenes, SWAP_SEED))))
    others = judge.features(images_of(random_scenes(32, UNSEEN_SEED + 1)))
    swap, other = (metrics.structure_distance(features, each).mean() for each in (swapped, others))
    assert 1.5 * swap < other


def test_the_background_is_what_neither_animal_covers() -> None:
    outside = background(SCENES, TARGETS)
    covered = torch.stack([torch.from_numpy(scene.mask()) for scene in [*SCENES, *TARGETS]]) > 0
    assert not (outside[covered[:3] | covered[3:]]).any()
    assert ((outside == 0) | (outside == 1)).all()
    assert 0.3 < outside.mean() < 0.8
