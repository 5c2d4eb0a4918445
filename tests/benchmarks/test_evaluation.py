from __future__ import annotations

import pytest
import torch

from benchmarks.evaluation import SWAP_SEED, UNSEEN_SEED, PromptSwapping, evaluate, images_of
from renoise.core.renoise import Renoising
from renoise.core.schedule import Schedule
from renoise.inversion.base import Inverter
from renoise.metrics import functional as metrics
from renoise.models.base import DiffusionModel
from tiny_models.data import VALIDATION_SEED, labels
from tiny_models.judge import JUDGE_SEED, SceneJudge, Verdict
from tiny_models.scenes import TRAINING_SEED, random_scenes, with_other_subjects

SCENES = random_scenes(3, UNSEEN_SEED)


@pytest.fixture(scope="module")
def inverter(model: DiffusionModel) -> Inverter:
    return Inverter(model, Schedule.from_scheduler(model.scheduler, 2), Renoising(0))


class SameAnswer(SceneJudge):
    """A judge that sees the same subjects in whatever it is shown."""

    def __init__(self, subjects: torch.Tensor) -> None:
        self.subjects = subjects

    def __call__(self, images: torch.Tensor) -> Verdict:
        return Verdict(self.subjects, self.subjects)


def test_scenes_are_none_that_a_model_was_trained_or_chosen_by() -> None:
    assert UNSEEN_SEED not in (TRAINING_SEED, VALIDATION_SEED, JUDGE_SEED)


def test_the_target_share_counts_edits_that_show_the_other_subject(inverter: Inverter) -> None:
    targets = list(with_other_subjects(SCENES, SWAP_SEED))
    wanted = labels(targets)[:, 0]
    assert all(scene.subject != target.subject for scene, target in zip(SCENES, targets, strict=True))
    shares = [
        evaluate(inverter, SCENES, PromptSwapping(SameAnswer(seen), 1.0)).target_share
        for seen in (wanted, labels(SCENES)[:, 0], torch.where(torch.arange(3) == 0, wanted, -1))
    ]
    assert shares == pytest.approx([1, 0, 1 / 3])


def test_an_edit_that_changes_nothing_is_as_far_from_the_target_as_the_reconstruction(
    inverter: Inverter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same_prompt(self: DiffusionModel, prompts: list[str], *options: object) -> object:
        return encode(self, [scene.caption for scene in SCENES])

    encode = DiffusionModel.encode_prompts
    monkeypatch.setattr(DiffusionModel, "encode_prompts", same_prompt)
    targets = list(with_other_subjects(SCENES, SWAP_SEED))
    found = evaluate(inverter, SCENES, PromptSwapping(SameAnswer(torch.zeros(3)), 1.0))
    assert found.target_psnr is not None
    latents = inverter.model.encode_images(images_of(SCENES))
    ceiling = metrics.psnr(inverter.model.decode_latents(latents), images_of(targets)).mean().item()
    assert found.target_psnr == pytest.approx(ceiling, abs=2)


def test_prompts_may_be_others_than_the_captions(inverter: Inverter) -> None:
    empty = evaluate(inverter, SCENES, prompts=[""] * len(SCENES))
    assert empty.latent_mse != evaluate(inverter, SCENES).latent_mse
    assert empty.target_share is None
