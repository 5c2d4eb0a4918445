"""The shipped CLIP, as the metrics of edits use it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

from renoise.metrics import CLIPScore, CLIPScoreSource, EditComparison
from tiny_models.classifier import degrade
from tiny_models.contrastive import HELD_OUT, held_out_scenes
from tiny_models.data import VALIDATION_SEED, to_pixels
from tiny_models.judge import JUDGE_SEED
from tiny_models.scenes import TRAINING_SEED, Scene, random_scenes, with_other_subjects

SCENES = random_scenes(128, JUDGE_SEED)
SWAPPED = with_other_subjects(SCENES, JUDGE_SEED)


def images_of(scenes: list[Scene]) -> torch.Tensor:
    """In [0, 1]."""
    return to_pixels(scene.draw() for scene in scenes).float() / 255


def blurred_and_noisy(images: torch.Tensor) -> torch.Tensor:
    return degrade(2 * images - 1, torch.Generator().manual_seed(0)) / 2 + 0.5


@pytest.fixture(scope="module")
def network(tiny_clip: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(tiny_clip, dtype=torch.float32).eval()


@torch.no_grad()
def similarities(network: CLIPModel, tiny_clip: Path, images: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Of image i and text j, by the processor that is shipped with the network."""
    pixels = list((255 * images).round().to(torch.uint8))
    inputs = CLIPProcessor.from_pretrained(tiny_clip)(images=pixels, text=texts, padding=True, return_tensors="pt")
    return network(**inputs).logits_per_image


@pytest.mark.parametrize("degraded", [False, True])
def test_image_and_text_of_unseen_captions_find_each_other(network: CLIPModel, tiny_clip: Path, degraded: bool) -> None:
    assert JUDGE_SEED not in (TRAINING_SEED, VALIDATION_SEED)
    scenes = held_out_scenes(4 * len(HELD_OUT), JUDGE_SEED)
    images = images_of(scenes)
    if degraded:
        images = blurred_and_noisy(images)
    right = torch.arange(len(HELD_OUT))
    texts = [scene.caption for scene in scenes[: len(HELD_OUT)]]
    found = [similarities(network, tiny_clip, batch, texts) for batch in images.split(len(HELD_OUT))]
    assert torch.cat([each.argmax(1) == right for each in found]).float().mean() >= 0.95
    assert torch.cat([each.argmax(0) == right for each in found]).float().mean() >= 0.95


def test_an_edit_scores_higher_for_its_own_caption_than_for_that_of_the_original(tiny_clip: Path) -> None:
    originals, edits = images_of(SCENES), images_of(SWAPPED)
    prompts, edit_prompts = ([scene.caption for scene in scenes] for scenes in (SCENES, SWAPPED))
    score = CLIPScore(str(tiny_clip))
    done = score(EditComparison(originals, edits, prompts, edit_prompts))
    not_begun = score(EditComparison(originals, originals, prompts, edit_prompts))
    old_caption = CLIPScoreSource(str(tiny_clip))(EditComparison(edits, edits, prompts, edit_prompts))
    for wrong in (not_begun, old_caption):
        assert (done > wrong).float().mean() >= 0.98
        assert (done - wrong).mean() > 10


def test_a_degraded_edit_still_scores_higher_for_its_own_caption(tiny_clip: Path) -> None:
    edits = blurred_and_noisy(images_of(SWAPPED))
    given = EditComparison(edits, edits, [scene.caption for scene in SCENES], [scene.caption for scene in SWAPPED])
    assert (CLIPScore(str(tiny_clip))(given) > CLIPScoreSource(str(tiny_clip))(given)).float().mean() >= 0.95


def test_an_image_scores_alike_at_twice_its_size(tiny_clip: Path) -> None:
    score = CLIPScore(str(tiny_clip))
    captions = [scene.caption for scene in SCENES[:8]]
    small = images_of(SCENES[:8])
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    scores = [score(EditComparison(images, images, captions, captions)) for images in (small, large)]
    torch.testing.assert_close(*scores, atol=2, rtol=0)


def test_it_is_a_clip_for_64_pixels_and_32_tokens(network: CLIPModel) -> None:
    assert network.config.vision_config.image_size == 64
    assert network.config.vision_config.patch_size == 8
    assert network.config.text_config.max_position_embeddings == 32
    assert network.visual_projection.out_features == network.text_projection.out_features == 64


def test_the_shipped_folder_is_in_half_precision_and_below_one_and_a_half_megabytes(tiny_clip: Path) -> None:
    files = {path.name: path.stat().st_size for path in tiny_clip.iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= set(files)
    assert sum(files.values()) < 1_500_000
    assert {tensor.dtype for tensor in load_file(tiny_clip / "model.safetensors").values()} == {torch.float16}
