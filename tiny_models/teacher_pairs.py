"""The training data of few-step students: noise, and the latents that a teacher makes of it in many steps."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import TensorDataset

import renoise
from tiny_models.data import VALIDATION_SEED, InMemoryDataModule
from tiny_models.scenes import TRAINING_SEED, random_scenes

BATCH_SIZE = 48
"""Images that the teacher generates at once."""
CONDITIONING = ("prompt_embeds", "pooled_prompt_embeds", "time_ids")
"""The parts of a `Conditioning` that a student needs. It has no guidance."""


class TeacherPairsDataModule(InMemoryDataModule):
    """Batches of (noise, latents, prompt_embeds[, pooled_prompt_embeds, time_ids]), each float32 [B, …].

    The teacher samples from the captions of random scenes, with DDIM and trailing spacing. The pairs are saved, so that
    an interrupted run does not generate them again.

    Args:
        teacher: Folder of the teacher's pipeline.
        cache: Folder for the pairs.
        pairs: Number of training pairs.
        validation_pairs: Number of validation pairs.
        num_inference_steps: Steps of the teacher's sampler.
        guidance_scale: Guidance of the teacher. The student learns its results without guidance.
        batch_size: Pairs per training step.
    """

    def __init__(
        self,
        teacher: Path,
        cache: Path,
        pairs: int,
        validation_pairs: int = 96,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        batch_size: int = 96,
    ) -> None:
        super().__init__(batch_size)
        self.teacher = teacher
        self.cache = cache
        self.pairs = pairs
        self.validation_pairs = validation_pairs
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale

    def setup(self, stage: str) -> None:
        """Generates the pairs that are not in the cache."""
        if stage == "fit":
            self.training_set = self._pairs(self.pairs, TRAINING_SEED)
            self.validation_set = self._pairs(self.validation_pairs, VALIDATION_SEED)

    def _pairs(self, count: int, seed: int) -> TensorDataset:
        path = self.cache / f"{count}-of-seed-{seed}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pairs = generate_pairs(load_ddim(self.teacher, self.num_inference_steps, self.guidance_scale), count, seed)
            unfinished = path.with_suffix(".tmp")
            save_file(pairs, unfinished)
            unfinished.replace(path)
        tensors = load_file(path)
        return TensorDataset(*(tensors[name] for name in ("noise", "latents", *CONDITIONING) if name in tensors))


def load_ddim(
    checkpoint: Path, num_inference_steps: int, guidance_scale: float, lora: Path | None = None
) -> renoise.InversionPipeline:
    """Loads a checkpoint with a DDIM sampler whose steps have trailing spacing."""
    return renoise.load(
        checkpoint,
        lora=None if lora is None else str(lora),
        scheduler="DDIMScheduler",
        scheduler_options={"timestep_spacing": "trailing"},
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
    )


@torch.inference_mode()
def generate_pairs(teacher: renoise.InversionPipeline, count: int, seed: int) -> dict[str, torch.Tensor]:
    """Generates latents from noise and the captions of random scenes.

    The network runs in bfloat16, which is several times faster on CPUs that support it. A student does not learn such
    small differences.

    Args:
        teacher: Model, sampler and guidance scale.
        count: Number of images.
        seed: Of the scenes and of the noise.

    Returns:
        "noise" and "latents", float32 [count, C, h, w], and the conditioning under the names of `CONDITIONING`.
    """
    model = teacher.model
    captions = [scene.caption for scene in random_scenes(count, seed)]
    side = model.pipeline.unet.config.sample_size
    shape = count, model.latent_channels, side, side
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    batches = []
    for start in range(0, count, BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        conditioning = model.encode_prompts(captions[batch], teacher.guidance_scale)
        with torch.autocast(noise.device.type, torch.bfloat16):
            latents = renoise.sample(model, renoise.Inversion(noise[batch], teacher.schedule, conditioning))
        parts = {name: getattr(conditioning, name) for name in CONDITIONING}
        given = {name: part for name, part in parts.items() if part is not None}
        batches.append({"noise": noise[batch], "latents": latents, **given})
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
