"""Trains few-step students of a shipped model: a whole UNet (SDXL Turbo in small) or a LoRA (LCM-LoRA in small).

Both regress what the teacher made of a noise over many steps, from every level at which the student will be called.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import lightning as L
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from peft import LoraConfig, get_peft_model_state_dict

from renoise.models.base import Conditioning
from renoise.models.loading import load_model
from tiny_models.optimizer import one_cycle

LEVELS = (999, 749, 499, 249)
"""Timesteps of four steps with trailing spacing."""
SHARES = (0.4, 0.3, 0.2, 0.1)
"""How much of a batch is trained at each level: the first step decides most."""


class DistillationModule(L.LightningModule):
    """The student's estimate of z_0 at four noise levels against the teacher's result.

    At the first level it starts from the very noise that the teacher started from, at the others from the result
    noised afresh. Subclasses say what learns, and how it is written.

    Args:
        teacher: folder of the pipeline that drew the pairs.
        output: folder that receives the student when the fit ends.
        learning_rate: peak of the one-cycle schedule.
    """

    def __init__(self, teacher: Path, output: Path, learning_rate: float) -> None:
        super().__init__()
        self.output, self.learning_rate = output, learning_rate
        self.model = load_model(str(teacher))
        self.scheduler = self.model.scheduler
        self.levels: torch.Tensor
        self.register_buffer("levels", torch.tensor(LEVELS))
        self.shares: torch.Tensor
        self.register_buffer("shares", torch.tensor(SHARES))

    @abstractmethod
    def write(self) -> None:
        """Writes the student to `output`."""

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Mean squared error of the estimates, over levels in their shares."""
        levels = self.levels[torch.multinomial(self.shares, len(batch[0]), replacement=True)]
        loss = self._errors(batch, levels, None).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """The error at each level, on unseen pairs and with the same noise every time."""
        for level in self.levels.tolist():
            generator = torch.Generator(self.device).manual_seed(batch_index)
            levels = torch.full((len(batch[0]),), level, device=self.device)
            self.log(f"validation/{level}", self._errors(batch, levels, generator).mean(), prog_bar=True)

    def _errors(
        self, batch: tuple[torch.Tensor, ...], levels: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Squared errors of z_0, [B, C, h, w], each image at its level, int64 [B]."""
        noise, latents, prompt_embeds, *rest = batch
        fresh = torch.randn(latents.shape, generator=generator, device=latents.device)
        noisy = self.scheduler.add_noise(latents, fresh, levels)
        first = (levels == LEVELS[0])[:, None, None, None]
        noisy = torch.where(first, noise, noisy)
        pooled, time_ids = rest if rest else (None, None)
        conditioning = Conditioning(prompt_embeds, None, 1.0, pooled_prompt_embeds=pooled, time_ids=time_ids)
        prediction = self.model.predict(noisy, levels, conditioning)
        alpha = self.scheduler.alphas_cumprod.to(latents)[levels, None, None, None]
        estimate = (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
        errors: torch.Tensor = (estimate - latents).square()
        return errors

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW under a one-cycle schedule over the whole run."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Writes the student."""
        self.write()


class TurboModule(DistillationModule):
    """The whole UNet learns; see `DistillationModule` for the arguments."""

    def __init__(self, teacher: Path, output: Path, learning_rate: float = 4e-4) -> None:
        super().__init__(teacher, output, learning_rate)
        self.model.unet.requires_grad_(True).train()

    def write(self) -> None:
        """The teacher's pipeline around the student, under ancestral Euler with trailing spacing, in half precision."""
        pipeline = self.model.pipeline
        pipeline.register_modules(
            scheduler=EulerAncestralDiscreteScheduler.from_config(self.scheduler.config, timestep_spacing="trailing")
        )
        pipeline.to("cpu", torch.float16).save_pretrained(self.output)


class LoraModule(DistillationModule):
    """A LoRA on attention, feed-forward, convolution and time layers learns; see `DistillationModule`.

    Args:
        teacher: folder of the pipeline that drew the pairs, which the LoRA belongs to.
        output: folder that receives it, as `load_lora_weights` takes it.
        rank: of each layer's update.
        learning_rate: peak of the one-cycle schedule.
    """

    TARGETS = (
        *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
        *("time_emb_proj", "time_embedding.linear_1", "time_embedding.linear_2"),
    )

    def __init__(self, teacher: Path, output: Path, rank: int = 32, learning_rate: float = 1e-3) -> None:
        super().__init__(teacher, output, learning_rate)
        self.model.pipeline.unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=list(self.TARGETS), init_lora_weights="gaussian")
        )

    def write(self) -> None:
        """The LoRA alone, in half precision."""
        weights = get_peft_model_state_dict(self.model.pipeline.unet)
        StableDiffusionPipeline.save_lora_weights(
            self.output, unet_lora_layers={name: tensor.to("cpu", torch.float16) for name, tensor in weights.items()}
        )
