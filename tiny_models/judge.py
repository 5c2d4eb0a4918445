"""Judges a checkpoint of the miniature world: `python -m tiny_models.judge CHECKPOINT [--sheet samples.png]`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image
from torchmetrics.image import PeakSignalNoiseRatio
from torchvision.utils import save_image
from transformers import ResNetForImageClassification

from renoise.models.loading import load_model
from renoise.models.schedulers import replace_scheduler
from tiny_models.classifier import split_logits
from tiny_models.data import labels, to_pixels
from tiny_models.samples import sample_photographs
from tiny_models.scenes import Scene, random_scenes

JUDGE_SEED = 7
"""The stream of scenes that checkpoints are judged by."""
AUTOENCODER_SCENES = 256
BATCH_SIZE = 64


class Verdict(NamedTuple):
    """What each image shows, as positions in `SUBJECTS` and `COLORS`, both int64 [B]."""

    subjects: torch.Tensor
    colors: torch.Tensor

    def right(self, scenes: list[Scene]) -> torch.Tensor:
        """Whether image i shows the subject and the color of scene i, bool [B, 2]."""
        return torch.stack(tuple(self), dim=1).cpu() == labels(scenes)


class SceneJudge:
    """Says which subject and which color an image of the world shows."""

    def __init__(self, network: ResNetForImageClassification) -> None:
        self.network = network.float().eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SceneJudge:
        """The judge that `SceneClassifierModule` wrote to `folder`."""
        return cls(ResNetForImageClassification.from_pretrained(folder))

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> Verdict:
        """The verdict on images float [B, 3, 64, 64] in [0, 1]."""
        subjects, colors = split_logits(self.network((2 * images.float() - 1).to(self.network.device)).logits)
        return Verdict(subjects.argmax(1), colors.argmax(1))

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Where what shows, float32 [B, 24, 16, 16]: the first stage, whose positions are those of latents.

        The stages after it see further than the parts of a face that an edit may move. Images as of `__call__`.
        """
        inputs = (2 * images.float() - 1).to(self.network.device)
        features: torch.Tensor = self.network(inputs, output_hidden_states=True).hidden_states[1]
        return features


@torch.inference_mode()
def round_trip_psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """PSNR of images [B, 3, H, W] in [0, 1] through the autoencoder and back, in dB, averaged over images."""
    psnr = PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3)).to(vae.device)
    for batch in images.to(vae.device).split(BATCH_SIZE):
        decoded = vae.decode(vae.encode(2 * batch - 1).latent_dist.mean).sample
        psnr.update((decoded / 2 + 0.5).clamp(0, 1), batch)
    return float(psnr.compute())


def draw_samples(
    pipeline: DiffusionPipeline, prompts: list[str], guidance_scale: float, num_inference_steps: int
) -> torch.Tensor:
    """One image per prompt under the checkpoint's own scheduler, float [B, 3, H, W] in [0, 1], on the CPU."""
    generator = torch.Generator().manual_seed(JUDGE_SEED)
    batches = []
    for start in range(0, len(prompts), BATCH_SIZE):
        result = pipeline(
            prompts[start : start + BATCH_SIZE],
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=generator,
            output_type="pt",
        )
        batches.append(result.images.cpu())
    return torch.cat(batches)


def main() -> None:
    """Prints how well a checkpoint carries unseen pictures, and how often it draws what it is told."""
    arguments = _arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = load_model(arguments.checkpoint, arguments.lora).pipeline.to(device)
    spacing = {"timestep_spacing": arguments.timestep_spacing} if arguments.timestep_spacing else None
    pipeline.register_modules(scheduler=replace_scheduler(pipeline.scheduler, arguments.scheduler, spacing))
    pipeline.set_progress_bar_config(disable=True)
    scenes = random_scenes(AUTOENCODER_SCENES, JUDGE_SEED)
    print(f"autoencoder, scenes      {round_trip_psnr(pipeline.vae, _unit(each.draw() for each in scenes)):6.2f} dB")
    print(f"autoencoder, photographs {round_trip_psnr(pipeline.vae, _unit(sample_photographs())):6.2f} dB")
    scenes = random_scenes(arguments.images, JUDGE_SEED)
    captions = [scene.caption for scene in scenes]
    drawn = draw_samples(pipeline, captions, arguments.guidance_scale, arguments.num_inference_steps)
    right = SceneJudge.from_pretrained(arguments.classifier)(drawn).right(scenes)
    print(f"right subject            {right[:, 0].float().mean():6.1%}")
    print(f"right color             {right[:, 1].float().mean():6.1%}")
    print(f"both                     {right.all(1).float().mean():6.1%}")
    if arguments.sheet is not None:
        save_image(drawn[:64], arguments.sheet)


def _unit(images: Iterable[Image.Image]) -> torch.Tensor:
    return to_pixels(images).float() / 255


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tiny_models.judge", description=__doc__)
    parser.add_argument("checkpoint", help="folder in diffusers layout")
    parser.add_argument("--lora", help="folder of LoRA weights")
    parser.add_argument("--scheduler", help="class name of another sampler")
    parser.add_argument("--timestep-spacing", help="of the sampler: leading, trailing or linspace")
    parser.add_argument("--images", type=int, default=256, help="how many captions to draw (default: 256)")
    parser.add_argument("--guidance-scale", type=float, default=3.0, help="1 is none (default: 3)")
    parser.add_argument("--num-inference-steps", type=int, default=30, help="(default: 30)")
    parser.add_argument("--sheet", type=Path, help="where to write a picture of the first 64 drawn images")
    parser.add_argument("--classifier", default="data/models/scene-classifier", help="folder of the judge")
    return parser.parse_args()


if __name__ == "__main__":
    main()
