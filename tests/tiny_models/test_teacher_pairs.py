from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_models import teacher_pairs
from tiny_models.teacher_pairs import TeacherPairsDataModule, generate_pairs, load_ddim


def test_pairs_are_generated_once_and_then_read_from_the_cache(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def module() -> TeacherPairsDataModule:
        return TeacherPairsDataModule(
            tiny_sd, tmp_path / "pairs", pairs=3, validation_pairs=2, num_inference_steps=2, batch_size=2
        )

    first = module()
    first.setup("fit")
    monkeypatch.setattr(teacher_pairs, "load_ddim", None)  # would raise if it were called again
    again = module()
    again.setup("fit")
    for found, expected in zip(again.training_set[:], first.training_set[:], strict=True):
        assert torch.equal(found, expected)
    assert {path.suffix for path in (tmp_path / "pairs").iterdir()} == {".safetensors"}
    noise, latents, embeds = next(iter(first.train_dataloader()))
    assert noise.shape == latents.shape == (2, 4, 16, 16)
    assert embeds.shape == (2, 32, 96)


def test_training_and_validation_pairs_are_of_different_scenes(tiny_sd: Path) -> None:
    teacher = load_ddim(tiny_sd, 1, 1.0)
    first, second = (generate_pairs(teacher, 2, seed) for seed in (0, 1))
    assert not torch.equal(first["noise"], second["noise"])
    assert not torch.equal(first["prompt_embeds"], second["prompt_embeds"])


def test_the_pairs_of_an_sdxl_teacher_have_pooled_embeddings_and_sizes(tiny_sdxl: Path) -> None:
    pairs = generate_pairs(load_ddim(tiny_sdxl, 1, 1.0), 2, 0)
    assert pairs["pooled_prompt_embeds"].shape == (2, 48)
    assert pairs["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_the_teacher_turns_the_noise_into_the_latents(tiny_sd: Path) -> None:
    """As diffusers' own pipeline does, except that the network runs in bfloat16."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from tiny_models.scenes import TRAINING_SEED, random_scenes

    pairs = generate_pairs(load_ddim(tiny_sd, 4, 3.0), 2, TRAINING_SEED)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd).to(torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    captions = [scene.caption for scene in random_scenes(2, TRAINING_SEED)]
    expected = pipeline(
        captions, latents=pairs["noise"], guidance_scale=3.0, num_inference_steps=4, output_type="latent"
    ).images
    assert (pairs["latents"] - expected).square().mean() < 0.02 * expected.var()
