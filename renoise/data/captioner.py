"""BLIP-2 says what images show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from renoise.errors import InputError


@dataclass(frozen=True)
class Captioning:
    """How images without text get one.

    Args:
        checkpoint: a hub id, or a local folder in transformers layout, of a BLIP-2 such as Salesforce/blip2-opt-2.7b.
        max_new_tokens: tokens of a caption, at most.
    """

    checkpoint: str
    max_new_tokens: int = 30

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"data.captioner.max_new_tokens must be 1 or more, but is {self.max_new_tokens}")


class Captioner:
    """A BLIP-2 (arXiv 2301.12597), in half precision on a GPU, that goes to the device of the images it is given.

    Where it would leave less than half of a GPU's memory to the diffusion model, which is there already, it goes back
    to the CPU after each batch, and `is_in_the_way` says so: images must then not be captioned beside an inversion.

    Args:
        captioning: which, and how long its captions are.

    Raises:
        InputError: it cannot be loaded, or is no BLIP-2.
    """

    def __init__(self, captioning: Captioning) -> None:
        self.captioning = captioning
        self.is_in_the_way = False
        try:
            self.processor = Blip2Processor.from_pretrained(captioning.checkpoint)
            self.network = Blip2ForConditionalGeneration.from_pretrained(
                captioning.checkpoint, dtype=torch.float16, use_safetensors=True
            ).eval()
        except (OSError, ValueError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"data.captioner.checkpoint: {captioning.checkpoint} cannot be loaded as a BLIP-2: {reason}; "
                "--data.captioner null leaves images without text with data.prompt"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[str]:
        """One caption for each image of [B, 3, H, W] in [0, 1], without white space around it; it may be empty."""
        self._go_to(images.device)
        inputs = self.processor.image_processor(images, do_rescale=False, return_tensors="pt", device=images.device)
        pixels = inputs.pixel_values.to(images.device, next(self.network.vision_model.parameters()).dtype)
        tokens = self.network.generate(pixels, max_new_tokens=self.captioning.max_new_tokens, do_sample=False)
        if self.is_in_the_way:
            self.network.to("cpu")
            torch.cuda.empty_cache()
        return [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def _go_to(self, device: torch.device) -> None:
        if device.type == "cpu":
            self.network.float()  # CPUs have no half precision worth the name
        here = next(self.network.parameters()).device
        self.network.to(device)
        if device.type == "cuda" and here.type == "cpu" and not self.is_in_the_way:
            free, total = torch.cuda.mem_get_info(device)
            self.is_in_the_way = free < total / 2
