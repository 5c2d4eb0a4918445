"""Measures how good a checkpoint of the miniature world is: `python -m tiny_models.judge CHECKPOINT`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image
from torchmetrics.image import PeakSignalNoiseRatio
from torchvision.utils import save_image
from transformers import AutoModelForImageClassification, PreTrainedModel

import renoise
from tiny_models.classifier import split_logits
from tiny_models.data import labels, to_pixels
from tiny_models.samples import sample_photographs
from tiny_models.scenes import Scene, random_scenes

JUDGE_SEED = 7
"""Seed of the scenes that checkpoints are judged on."""
AUTOENCODER_SCENES = 256
BATCH_SIZE = 64


class Verdict(NamedTuple):
    """What each image shows, as positions in `SUBJECTS` and `COLORS`, both int64 [B]. No subject is -1."""

    subjects: torch.Tensor
    colors: torch.Tensor

    def right(self, scenes: Sequence[Scene]) -> torch.Tensor:
        """Returns whether image i shows the subject and the color of scene i, bool [B, 2]."""
        return torch.stack(tuple(self), dim=1).cpu() == labels(scenes)


class SceneJudge:
    """Classifies the subject and the color of scenes.

    Args:
        network: The classifier, trained by a `ClassifierModule`. If its configuration has a `confidence`, an image
            whose subject is less probable than that shows no subject.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self.network = network.float().eval()
        self.confidence: float = getattr(network.config, "confidence", 0.0)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SceneJudge:
        """Loads the classifier from a folder in transformers layout."""
        return cls(AutoModelForImageClassification.from_pretrained(folder))

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> Verdict:
        """Returns the verdict on images, float [B, 3, 64, 64] in [0, 1]."""
        subjects, colors = split_logits(self.network(self._inputs(images)).logits)
        shares, found = subjects.softmax(1).max(1)
        return Verdict(found.where(shares >= self.confidence, -1), colors.argmax(1))

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Returns a feature map with the resolution of latents: the network's first stage.

        Later stages have larger receptive fields, which do not show where the parts of a face are.

        Args:
            images: Float [B, 3, 64, 64] in [0, 1].

        Returns:
            Features, float32 [B, C, 16, 16].
        """
        features: torch.Tensor = self.network(self._inputs(images), output_hidden_states=True).hidden_states[1]
        return features

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        return (2 * images.float() - 1).to(self.network.device)


@torch.inference_mode()
def round_trip_psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """Returns the mean PSNR, in dB, of images that are encoded and decoded. `images` are [B, 3, H, W] in [0, 1]."""
    psnr = PeakSignalNoiseRatio(data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3)).to(vae.device)
    for batch in images.to(vae.device).split(BATCH_SIZE):
        decoded = vae.decode(vae.encode(2 * batch - 1).latent_dist.mean).sample
        psnr.update((decoded / 2 + 0.5).clamp(0, 1), batch)
    return float(psnr.compute())


def draw_samples(
    pipeline: DiffusionPipeline, prompts: Sequence[str], guidance_scale: float, num_inference_steps: int
) -> torch.Tensor:
    """Returns one image per prompt, sampled with the pipeline's scheduler, float [B, 3, H, W] in [0, 1] on the CPU."""
    generator = torch.Generator().manual_seed(JUDGE_SEED)
    batches = []
    for start in range(0, len(prompts), BATCH_SIZE):
        result = pipeline(
            list(prompts[start : start + BATCH_SIZE]),
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=generator,
            output_type="pt",
        )
        batches.append(result.images.cpu())
    return torch.cat(batches)


def main(args: Sequence[str] | None = None) -> None:
    """Prints the autoencoder's PSNR and the share of samples that match their prompts.

    Args:
        args: Replaces `sys.argv[1:]`.
    """
    options = _parse(args)
    try:
        pipeline = _load_pipeline(options)
    except renoise.InputError as error:
        raise SystemExit(f"error: {error}") from error
    scenes = random_scenes(AUTOENCODER_SCENES, JUDGE_SEED)
    print(f"autoencoder, scenes      {round_trip_psnr(pipeline.vae, _unit(each.draw() for each in scenes)):6.2f} dB")
    print(f"autoencoder, photographs {round_trip_psnr(pipeline.vae, _unit(sample_photographs())):6.2f} dB")
    scenes = random_scenes(options.images, JUDGE_SEED)
    captions = [scene.caption for scene in scenes]
    samples = draw_samples(pipeline, captions, options.guidance_scale, options.num_inference_steps)
    right = SceneJudge.from_pretrained(options.classifier)(samples).right(scenes)
    print(f"right subject            {right[:, 0].float().mean():6.1%}")
    print(f"right color              {right[:, 1].float().mean():6.1%}")
    print(f"both                     {right.all(1).float().mean():6.1%}")
    if options.sheet is not None:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        save_image(samples[:64], options.sheet)


def _load_pipeline(options: argparse.Namespace) -> DiffusionPipeline:
    loaded = renoise.load(
        options.checkpoint,
        lora=options.lora,
        scheduler=options.scheduler,
        scheduler_options={"timestep_spacing": options.timestep_spacing} if options.timestep_spacing else None,
        num_inference_steps=options.num_inference_steps,
    )
    pipeline = loaded.model.pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.register_modules(scheduler=loaded.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _unit(images: Iterable[Image.Image]) -> torch.Tensor:
    return to_pixels(images).float() / 255


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tiny_models.judge", description=__doc__)
    parser.add_argument("checkpoint", help="folder in diffusers layout")
    parser.add_argument("--lora", help="folder of LoRA weights")
    parser.add_argument("--scheduler", help="class name of a diffusers scheduler (default: the checkpoint's)")
    parser.add_argument("--timestep-spacing", help="of the scheduler: leading, trailing or linspace")
    parser.add_argument("--images", type=int, default=256, help="number of images to sample (default: 256)")
    parser.add_argument("--guidance-scale", type=float, default=3.0, help="1 is without guidance (default: 3)")
    parser.add_argument("--num-inference-steps", type=int, default=30, help="steps of the sampler (default: 30)")
    parser.add_argument("--sheet", type=Path, help="file for a contact sheet of the first 64 samples")
    parser.add_argument(
        "--classifier",
        default="data/models/scene-classifier",
        help="folder of the classifier (default: the shipped one)",
    )
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
