"""What few-step students learn from: noise, and the latents that a teacher turns it into over many steps."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file
from torch.utils.data import TensorDataset

from renoise.core.schedule import Schedule
from renoise.inversion.base import Inversion, sample
from renoise.models.base import DiffusionModel
from renoise.models.loading import load_model
from tiny_models.data import VALIDATION_SEED, InMemoryDataModule
from tiny_models.scenes import TRAINING_SEED, random_scenes

AT_ONCE = 48
"""Pictures that the teacher draws side by side."""
CONDITIONING = ("prompt_embeds", "pooled_prompt_embeds", "time_ids")
"""The parts of a `Conditioning` that a student without guidance is told."""


class TeacherPairsDataModule(InMemoryDataModule):
    """Batches of (noise, latents, prompt_embeds[, pooled_prompt_embeds, time_ids]), each float32 [B, …].

    The teacher draws the captions of random scenes under DDIM with trailing spacing. Its pictures are kept in `cache`,
    so that an interrupted fit goes on at once.

    Args:
        teacher: folder of the pipeline that draws.
        cache: folder that keeps what it drew.
        pairs: how many pictures it draws for training.
        validation_pairs: how many to judge by.
        num_inference_steps: of the teacher.
        guidance_scale: of the teacher; the student learns to draw so without guidance.
        batch_size: pairs per training step.
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
        self.teacher, self.cache = teacher, cache
        self.pairs, self.validation_pairs = pairs, validation_pairs
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale

    def setup(self, stage: str) -> None:
        """Lets the teacher draw every picture that the cache does not hold."""
        if stage == "fit":
            self.training_set = self._pairs(self.pairs, TRAINING_SEED)
            self.validation_set = self._pairs(self.validation_pairs, VALIDATION_SEED)

    def _pairs(self, count: int, seed: int) -> TensorDataset:
        path = self.cache / f"{count}-of-seed-{seed}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            teacher = load_model(str(self.teacher))
            drawn = draw(teacher, count, seed, self.num_inference_steps, self.guidance_scale)
            unfinished = path.with_suffix(".tmp")
            save_file(drawn, unfinished)
            unfinished.replace(path)
        kept = load_file(path)
        return TensorDataset(*(kept[name] for name in ("noise", "latents", *CONDITIONING) if name in kept))


@torch.inference_mode()
def draw(
    teacher: DiffusionModel, count: int, seed: int, num_inference_steps: int, guidance_scale: float
) -> dict[str, torch.Tensor]:
    """`count` pictures of the scenes of `seed`: their noise, latents and conditioning, each [count, …].

    The network runs in bfloat16, several times faster on CPUs that have it; a student does not learn such detail.
    """
    scheduler = DDIMScheduler.from_config(teacher.scheduler.config, timestep_spacing="trailing")
    schedule = Schedule.from_scheduler(scheduler, num_inference_steps)
    captions = [scene.caption for scene in random_scenes(count, seed)]
    side, channels = teacher.pipeline.unet.config.sample_size, teacher.pipeline.unet.config.in_channels
    noise = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
    parts = []
    for start in range(0, count, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        conditioning = teacher.encode_prompts(captions[rows], guidance_scale)
        with torch.autocast(noise.device.type, torch.bfloat16):
            latents = sample(teacher, Inversion(noise[rows], schedule, conditioning))
        told = {name: getattr(conditioning, name) for name in CONDITIONING}
        parts.append({"noise": noise[rows], "latents": latents} | {k: v for k, v in told.items() if v is not None})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
