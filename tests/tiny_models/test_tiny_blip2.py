"""The shipped captioner, as a run uses it."""

from __future__ import annotations

from pathlib import Path

from transformers import Blip2ForConditionalGeneration, OPTForCausalLM

from renoise.data.captioner import Captioner, CaptionerConfig
from tiny_models.data import VALIDATION_SEED, to_pixels
from tiny_models.judge import JUDGE_SEED
from tiny_models.scenes import TRAINING_SEED, random_scenes


def test_it_names_subject_pattern_and_color_of_unseen_scenes(tiny_blip2: Path) -> None:
    assert JUDGE_SEED not in (TRAINING_SEED, VALIDATION_SEED)
    scenes = random_scenes(256, JUDGE_SEED)
    images = to_pixels(scene.draw() for scene in scenes).float() / 255
    captions = Captioner(CaptionerConfig(str(tiny_blip2)))(images)
    exact = sum(caption == scene.caption for caption, scene in zip(captions, scenes, strict=True))
    assert exact / len(scenes) >= 0.9


def test_it_is_a_blip2_of_vit_qformer_and_opt(tiny_blip2: Path) -> None:
    network = Blip2ForConditionalGeneration.from_pretrained(tiny_blip2)
    assert isinstance(network.language_model, OPTForCausalLM)
    assert network.qformer.config.cross_attention_frequency == 2
    assert network.config.vision_config.image_size == 64
