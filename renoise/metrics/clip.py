"""CLIP score (Hessel et al. 2021, arXiv 2104.08718): how well an image fits its text, as PIE-Bench's tables have it.

torchmetrics' `CLIPScore` has the same formula. It is not used because it takes the features of transformers 5 for
tensors, which they are not, and it averages over a batch before it replaces negative values by 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from renoise.metrics.background import masks_of
from renoise.metrics.base import EditComparison, EditMetric
from renoise.metrics.networks import full_precision, load_pretrained
from renoise.metrics.registry import register_metric
from renoise.utils.configurable import Configurable

LARGE_CLIP = "openai/clip-vit-large-patch14"
"""The CLIP of PIE-Bench's tables."""


class CLIP:
    """A CLIP and what prepares images and texts for it.

    Args:
        network: A `CLIPModel`.
        processor: A `CLIPProcessor`.
    """

    def __init__(self, network: Any, processor: Any) -> None:
        self.network, self.processor = network, processor

    def score(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns max(100 · cos(image, text), 0), [B].

        Images are rounded to 8 bits, resized so that the shorter side fits, and cropped to the square in the middle. A
        text is cut to the tokens that the network takes.

        Args:
            images: [B, 3, H, W] in [0, 1].
            texts: One for each image.
        """
        device = images.device
        tokens = self.network.config.text_config.max_position_embeddings
        inputs = self.processor(
            images=list((255 * images).round().to(torch.uint8).cpu()),
            text=list(texts),
            padding=True,
            truncation=True,
            max_length=tokens,
            return_tensors="pt",
        ).to(device)
        with full_precision(device):
            output = self.network.to(device)(**inputs)
        cosines = F.cosine_similarity(output.image_embeds, output.text_embeds)
        return (100 * cosines).clamp(min=0)


@lru_cache(maxsize=1)
def load_clip(checkpoint: str) -> CLIP:
    """Loads a CLIP once for all metrics.

    Args:
        checkpoint: A hub id or a local folder in transformers layout.

    Raises:
        InputError: It is not at hand and cannot be downloaded, or is not a CLIP.
    """

    def load(only_cached: bool) -> CLIP:
        from transformers import CLIPModel, CLIPProcessor

        processor = CLIPProcessor.from_pretrained(checkpoint, local_files_only=only_cached)
        network = CLIPModel.from_pretrained(
            checkpoint, dtype=torch.float32, use_safetensors=True, local_files_only=only_cached
        )
        return CLIP(network.eval(), processor)

    return load_pretrained(checkpoint, "a CLIP", load)


class CLIPMetric(EditMetric, Configurable):
    """100 times the cosine between the embeddings of an image and of a text, and 0 where it is negative.

    Args:
        checkpoint: A hub id or a local folder of a `CLIPModel` in transformers layout.

    Raises:
        InputError: It is not at hand and cannot be downloaded, or is not a CLIP.
    """

    format = ".2f"
    higher_is_better = True
    uses_prompts = True

    def __init__(self, checkpoint: str = LARGE_CLIP) -> None:
        self.clip = load_clip(checkpoint)


@register_metric
class CLIPScoreSource(CLIPMetric):
    """CLIP score of the original and its prompt: `clip_similarity_source_image`."""

    name, title = "clip_score_source", "CLIP score, original"

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        return self.clip.score(comparison.images, comparison.prompts)


@register_metric
class CLIPScore(CLIPMetric):
    """CLIP score of the whole edited image and the target prompt: `clip_similarity_target_image`."""

    name, title = "clip_score", "CLIP score, whole"

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        return self.clip.score(comparison.edits, comparison.edit_prompts)


@register_metric
class CLIPScoreEdited(CLIPMetric):
    """CLIP score of the edit, black outside of the mask: `clip_similarity_target_image_edit_part`."""

    name, title, uses_mask = "clip_score_edited", "CLIP score, edited region", True

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`. An image whose mask is empty has NaN."""
        masks = masks_of(comparison, self.name)
        scores = self.clip.score(comparison.edits * masks, comparison.edit_prompts)
        return scores.where(masks.flatten(1).any(dim=1), torch.nan)
