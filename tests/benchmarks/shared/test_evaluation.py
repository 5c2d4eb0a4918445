from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import renoise
from benchmarks.shared.evaluation import Judges, background, compare_edits, evaluate_edits, evaluate_round_trip
from benchmarks.shared.scenes import UNSEEN_SEED, images_of, invert_scenes, swapped, unseen_scenes
from renoise import (
    DiffusionModel,
    Editor,
    EditRequest,
    InputError,
    Inversion,
    InversionPipeline,
    ReNoise,
    masked_psnr,
    structure_distance,
)
from tiny_models.data import VALIDATION_SEED
from tiny_models.judge import JUDGE_SEED
from tiny_models.scenes import TRAINING_SEED, random_scenes

REPOSITORY = Path(__file__).resolve().parents[3]
SCENES = unseen_scenes(3)
TARGETS = swapped(SCENES)


class Oracle(Editor):
    """Draws the correct results. Calls the network with one input for each image and one more for each batch."""

    def __init__(self, refused: str = "nothing") -> None:
        self.refused, self.batches = refused, list[int]()

    def refusal(self, request: EditRequest) -> str | None:
        return "not this one" if self.refused in request.prompt else None

    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        assert inversion.trajectory is not None
        assert torch.equal(inversion.latents, inversion.trajectory[0])
        self.batches.append(len(requests))
        size = len(requests) + 1
        embeddings = inversion.conditioning.prompt_embeds[:1].expand(size, -1, -1)
        latents = torch.zeros(size, *inversion.latents.shape[1:])
        model.network(sample=latents, timestep=1, encoder_hidden_states=embeddings)
        by_caption = {scene.caption: scene for scene in TARGETS}
        return images_of([by_caption[request.edit_prompt or ""] for request in requests])


@pytest.fixture(scope="module")
def pipeline(tiny_sd: Path) -> InversionPipeline:
    return renoise.load(tiny_sd, num_inference_steps=2, inversion=ReNoise(0))


@pytest.fixture(scope="module")
def inversion(pipeline: InversionPipeline) -> Inversion:
    return invert_scenes(pipeline, SCENES, keep_trajectory=True)


@pytest.fixture(scope="module")
def judges() -> Judges:
    models = REPOSITORY / "data/models"
    return Judges.from_pretrained(str(models / "scene-classifier"), str(models / "strict-classifier"))


def test_no_model_was_trained_or_chosen_by_the_scenes_that_are_measured() -> None:
    assert UNSEEN_SEED not in (TRAINING_SEED, VALIDATION_SEED, JUDGE_SEED)


def test_scenes_are_inverted_under_their_captions(pipeline: InversionPipeline, inversion: Inversion) -> None:
    captions = pipeline.model.encode_prompts([scene.caption for scene in SCENES])
    torch.testing.assert_close(inversion.conditioning.prompt_embeds, captions.prompt_embeds)
    assert inversion.nfe.tolist() == [2] * 3
    assert invert_scenes(pipeline, SCENES, ReNoise(1), guidance_scale=2.0).nfe.tolist() == [8] * 3


def test_a_round_trip_is_the_mean_over_the_images(pipeline: InversionPipeline, inversion: Inversion) -> None:
    together = vars(evaluate_round_trip(pipeline.model, inversion, SCENES))
    alone = [
        vars(evaluate_round_trip(pipeline.model, inversion.select([index]), [scene]))
        for index, scene in enumerate(SCENES)
    ]
    for name, value in together.items():
        assert value == pytest.approx(sum(each[name] for each in alone) / 3, rel=1e-3, abs=1e-4), name
    assert together["psnr"] < together["psnr_vae"]
    assert together["nfe"] == 2


def test_the_correct_results_are_perfect_edits(
    pipeline: InversionPipeline, inversion: Inversion, judges: Judges
) -> None:
    editor = Oracle()
    found = evaluate_edits(editor, pipeline.model, inversion, SCENES, TARGETS, judges, edited_together=2)
    assert editor.batches == [2, 1]
    assert found.target_share == found.strict_share == 1
    assert found.target_psnr == float("inf")
    images, answers = images_of(SCENES), images_of(TARGETS)
    expected = masked_psnr(answers, images, background(SCENES, TARGETS)).mean().item()
    assert found.background_psnr == pytest.approx(expected, rel=1e-4)
    assert found.background_psnr > 60, "a swap of animals keeps all of the background"
    assert found.background_ssim > 0.999
    assert found.structure_distance > 0.01, "another animal is another layout"
    assert found.nfe == pytest.approx((3 + 2) / 3)
    assert found.inversion_nfe == 2
    assert found.seconds > 0
    assert found.refused_share == 0


def test_images_without_an_edit_are_counted_and_left_out_of_the_means(
    pipeline: InversionPipeline, inversion: Inversion, judges: Judges
) -> None:
    editor = Oracle(refused=SCENES[0].caption)
    failed = inversion.select(range(3))
    failed.failures = {1: "the latents turned NaN"}
    found = evaluate_edits(editor, pipeline.model, failed, SCENES, TARGETS, judges)
    assert editor.batches == [1]
    assert found.refused_share == pytest.approx(2 / 3)
    assert found.target_share == 1
    with pytest.raises(InputError, match="Oracle can edit none of the scenes: not this one"):
        evaluate_edits(Oracle(refused="background"), pipeline.model, inversion, SCENES, TARGETS, judges)


def test_an_unchanged_image_keeps_everything_and_is_no_successful_edit(judges: Judges) -> None:
    found = compare_edits(images_of(SCENES), SCENES, TARGETS, judges)
    assert not found["target_share"].any()
    assert not found["strict_share"].any()
    assert found["background_psnr"].isinf().all()
    torch.testing.assert_close(found["background_ssim"], torch.ones(3))
    assert found["structure_distance"].abs().max() < 1e-6


def test_an_edit_that_leaves_some_of_the_first_animal_succeeds_for_the_first_judge_alone(judges: Judges) -> None:
    scenes = unseen_scenes(16)
    targets = swapped(scenes)
    unfinished = images_of(scenes).lerp(images_of(targets), 0.65)
    found = compare_edits(unfinished, scenes, targets, judges)
    assert found["target_share"].float().mean() > 0.8
    assert found["strict_share"].float().mean() < 0.5


def test_structure_distance_is_larger_for_other_scenes_than_for_another_animal(judges: Judges) -> None:
    scenes = unseen_scenes(32)
    features = judges.first.features(images_of(scenes))
    assert features.shape == (32, 24, 16, 16)
    swap, other = (
        structure_distance(features, judges.first.features(images_of(each))).mean()
        for each in (swapped(scenes), random_scenes(32, UNSEEN_SEED + 1))
    )
    assert 1.5 * swap < other


def test_the_background_is_what_neither_animal_covers() -> None:
    outside = background(SCENES, TARGETS)
    covered = torch.stack([torch.from_numpy(scene.mask()) for scene in [*SCENES, *TARGETS]]) > 0
    assert not (outside[covered[:3] | covered[3:]]).any()
    assert ((outside == 0) | (outside == 1)).all()
    assert 0.3 < outside.mean() < 0.8
