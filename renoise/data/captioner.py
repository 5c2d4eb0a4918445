"""BLIP-2, which captions images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor

from renoise.data.files import error_text
from renoise.errors import InputError
from renoise.utils.hub import check_hub
from renoise.utils.progress import report

GENERATION_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What `generate` raises for checkpoints that do not fit together, and where memory runs out."""


@dataclass(frozen=True)
class CaptionerConfig:
    """How images without a text get one.

    Args:
        checkpoint: A hub id or local folder of a BLIP-2 in transformers layout, such as Salesforce/blip2-opt-2.7b.
        max_new_tokens: Largest number of tokens of a caption.
    """

    checkpoint: str
    max_new_tokens: int = 30

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be 1 or more, got {self.max_new_tokens}")


class Captioner:
    """A BLIP-2 (arXiv 2301.12597), in half precision on a GPU. It moves to the device of the images.

    Where it leaves less than half of a GPU's memory to the diffusion model, which is loaded already, it moves back to
    the CPU after each batch, and `is_offloaded` is true. Images must then not be captioned during an inversion.

    Args:
        config: The checkpoint and the length of captions.

    Raises:
        InputError: The checkpoint cannot be loaded or is not a BLIP-2.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        from transformers import Blip2ForConditionalGeneration, Blip2Processor  # slow, and most runs need no captions

        self.config = config
        self.is_offloaded = False
        only_cached = check_hub(config.checkpoint, "config.json", "data.captioner.checkpoint")
        report(f"loading {config.checkpoint}, which captions images …")
        try:
            self.processor = Blip2Processor.from_pretrained(config.checkpoint, local_files_only=only_cached)
            self.network = Blip2ForConditionalGeneration.from_pretrained(
                config.checkpoint, dtype=torch.float16, use_safetensors=True, local_files_only=only_cached
            ).eval()
            self._name_image_token()
        except (OSError, ValueError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
            raise InputError(
                f"data.captioner.checkpoint: {config.checkpoint} cannot be loaded as a BLIP-2: {error_text(error)}; "
                "set data.captioner to null to give images without a text the prompt of data.prompt"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[str]:
        """Returns one caption for each image, without white space around it. It may be empty.

        Args:
            images: [B, 3, H, W] in [0, 1].

        Raises:
            InputError: The network cannot caption them.
        """
        try:
            return self._generate(images)
        except GENERATION_ERRORS as error:
            advice = "; lower data.batch_size" if isinstance(error, torch.OutOfMemoryError) else ""
            raise InputError(
                f"data.captioner.checkpoint: {self.config.checkpoint} cannot caption {len(images)} images: "
                f"{type(error).__name__}: {error_text(error)}{advice}"
            ) from error

    def _generate(self, images: Tensor) -> list[str]:
        self._move_to(images.device)
        inputs = self.processor.image_processor(images, do_rescale=False, return_tensors="pt", device=images.device)
        pixels = inputs.pixel_values.to(images.device, next(self.network.vision_model.parameters()).dtype)
        tokens = self.network.generate(pixels, max_new_tokens=self.config.max_new_tokens, do_sample=False)
        if self.is_offloaded:
            self.network.to("cpu")
            torch.cuda.empty_cache()
        return [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def _name_image_token(self) -> None:
        """Names the token in whose places the image's embeddings stand. Checkpoints from before 11/2024 do not.

        Raises:
            ValueError: The vocabulary has no place for one.
        """
        config = self.network.config
        if config.image_token_index is None:
            config.image_token_index = self.processor.tokenizer.convert_tokens_to_ids(
                self.processor.image_token.content
            )
        size = self.network.get_input_embeddings().num_embeddings
        if config.image_token_index >= size:
            raise ValueError(
                f"its token for images is number {config.image_token_index}, and it has embeddings for {size} tokens"
            )

    def _move_to(self, device: torch.device) -> None:
        if device.type == "cpu":
            self.network.float()  # half precision is slow on CPUs
        current = next(self.network.parameters()).device
        self.network.to(device)
        if device.type == "cuda" and current.type == "cpu" and not self.is_offloaded:
            free, total = torch.cuda.mem_get_info(device)
            self.is_offloaded = free < total / 2
