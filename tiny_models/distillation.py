"""Trains few-step students of a shipped model: a whole UNet (a small SDXL Turbo) or a LoRA (a small LCM-LoRA).

At each of the four noise levels of its sampler, the student learns to predict what the teacher makes of the noise in
many steps.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import lightning as L
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from peft import LoraConfig, get_peft_model_state_dict

import renoise
from tiny_models.optimizer import one_cycle

LEVELS = (999, 749, 499, 249)
"""Timesteps of a four-step sampler with trailing spacing."""
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Share of a batch that is trained at each level. The first step matters most."""


class DistillationModule(L.LightningModule):
    """Trains a student to estimate the teacher's z_0 at four noise levels.

    At the first level, the student starts from the noise that the teacher started from. At the others, it starts from
    the teacher's z_0 with fresh noise. A subclass chooses the weights to train, and saves them.

    Args:
        teacher: Folder of the pipeline that generated the pairs.
        output: Folder for the trained student.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(self, teacher: Path, output: Path, learning_rate: float) -> None:
        super().__init__()
        self.output = output
        self.learning_rate = learning_rate
        self.model = renoise.load(teacher).model
        self.scheduler = self.model.scheduler
        self.levels: torch.Tensor
        self.register_buffer("levels", torch.tensor(LEVELS))
        self.shares: torch.Tensor
        self.register_buffer("shares", torch.tensor(SHARES))

    @abstractmethod
    def save(self) -> None:
        """Saves the student to `output`."""

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the mean squared error of the estimates, at random levels in the proportions of `SHARES`."""
        levels = self.levels[torch.multinomial(self.shares, len(batch[0]), replacement=True)]
        loss = self._errors(batch, levels, None).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs the error at each level, on validation pairs and with the same noise every time."""
        for level in self.levels.tolist():
            generator = torch.Generator(self.device).manual_seed(batch_index)
            levels = torch.full((len(batch[0]),), level, device=self.device)
            self.log(f"validation/{level}", self._errors(batch, levels, generator).mean(), prog_bar=True)

    def _errors(
        self, batch: tuple[torch.Tensor, ...], levels: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Returns the squared errors of z_0, [B, C, h, w]. `levels` are the images' timesteps, int64 [B]."""
        noise, latents, prompt_embeds, *rest = batch
        fresh = torch.randn(latents.shape, generator=generator, device=latents.device)
        noisy = self.scheduler.add_noise(latents, fresh, levels)
        first = (levels == LEVELS[0])[:, None, None, None]
        noisy = torch.where(first, noise, noisy)
        pooled, time_ids = rest if rest else (None, None)
        conditioning = renoise.Conditioning(prompt_embeds, pooled_prompt_embeds=pooled, time_ids=time_ids)
        prediction = self.model.predict(noisy, levels, conditioning)
        alpha = self.scheduler.alphas_cumprod.to(latents)[levels, None, None, None]
        estimate = (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
        errors: torch.Tensor = (estimate - latents).square()
        return errors

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Saves the student."""
        self.save()


class TurboModule(DistillationModule):
    """Trains the whole UNet; see `DistillationModule` for the arguments."""

    def __init__(self, teacher: Path, output: Path, learning_rate: float = 4e-4) -> None:
        super().__init__(teacher, output, learning_rate)
        self.model.network.requires_grad_(True).train()

    def save(self) -> None:
        """Saves the pipeline in half precision, with ancestral Euler and trailing spacing as its scheduler."""
        pipeline = self.model.pipeline
        pipeline.register_modules(
            scheduler=EulerAncestralDiscreteScheduler.from_config(self.scheduler.config, timestep_spacing="trailing")
        )
        pipeline.to("cpu", torch.float16).save_pretrained(self.output)


class LoraModule(DistillationModule):
    """Trains a LoRA on the attention, feed-forward, convolution and time layers; see `DistillationModule`.

    Args:
        teacher: Folder of the pipeline that generated the pairs. The LoRA belongs to it.
        output: Folder for the LoRA, in the layout of `load_lora_weights`.
        rank: Rank of each layer's update.
        learning_rate: Peak of the one-cycle schedule.
    """

    ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
    CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
    TIME = ("time_emb_proj", "time_embedding.linear_1", "time_embedding.linear_2")

    def __init__(self, teacher: Path, output: Path, rank: int = 32, learning_rate: float = 1e-3) -> None:
        super().__init__(teacher, output, learning_rate)
        layers = [*self.ATTENTION, *self.CONVOLUTION, *self.TIME]
        self.model.pipeline.unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=layers, init_lora_weights="gaussian")
        )

    def save(self) -> None:
        """Saves the LoRA in half precision."""
        weights = get_peft_model_state_dict(self.model.pipeline.unet)
        StableDiffusionPipeline.save_lora_weights(
            self.output, unet_lora_layers={name: tensor.to("cpu", torch.float16) for name, tensor in weights.items()}
        )
