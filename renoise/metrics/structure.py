"""Structure distance (Tumanyan et al. 2022, arXiv 2201.00424): whether two images have the same layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from renoise.errors import InputError
from renoise.metrics import functional
from renoise.metrics.base import PairMetric
from renoise.metrics.networks import full_precision, load_pretrained
from renoise.metrics.registry import register_metric
from renoise.utils.configurable import Configurable

LAYER = 11
"""Of a ViT-B, the last."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of pixels in [0, 1]."""


@register_metric
class StructureDistance(PairMetric, Configurable):
    """Mean squared difference of the cosines between DINO's keys at every two tokens, as PIE-Bench's tables have it.

    The keys of layer 11 are taken of all tokens, the class token too, with heads concatenated. As in PnPInversion
    (arXiv 2310.01506), whose numbers everybody quotes, pixels in 0…255 are normalized by ImageNet's mean and standard
    deviation of pixels in [0, 1], and images are resized without antialiasing, as by its torchvision 0.13: the shorter
    side to 224 pixels, but the longer to 480 at most. Numbers of a correct normalization cannot be compared with these.

    Args:
        checkpoint: A hub id or a local folder of a `ViTModel` in transformers layout.

    Raises:
        InputError: It is not at hand and cannot be downloaded, or is not a ViT with 12 layers or more.
    """

    name = "structure_distance"
    title = "structure distance (DINO)"
    format = ".4f"
    higher_is_better = False

    def __init__(self, checkpoint: str = "facebook/dino-vitb8") -> None:
        self.vit = load_pretrained(checkpoint, "a ViT", lambda only_cached: _load(checkpoint, only_cached))
        names = [name for name, _ in self.vit.named_modules() if name.endswith((".k_proj", ".attention.key"))]
        if len(names) <= LAYER:
            raise InputError(
                f"metrics: structure_distance needs the keys of layer {LAYER}, counted from 0; {checkpoint} has "
                f"{len(names)} layers: give a ViT with 12 as `checkpoint`"
            )
        self.key_layer = names[LAYER]

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric` and `functional.structure_distance`."""
        pairs = zip(images, targets, strict=True)  # one at a time: a large image has millions of pairs of tokens
        with full_precision(images.device):
            return torch.cat([functional.structure_distance(*map(self._keys, pair)) for pair in pairs])

    def _keys(self, image: Tensor) -> Tensor:
        """Returns the keys of an image [3, H, W] in [0, 1], with heads concatenated, [1, C, tokens, 1]."""
        from torchvision.transforms.functional import normalize, resize

        keys: list[Tensor] = []
        vit = self.vit.to(image.device)
        hook = vit.get_submodule(self.key_layer).register_forward_hook(lambda _, __, output: keys.append(output))
        try:
            pixels = resize(255 * image.float()[None], [224], max_size=480, antialias=False)
            vit(normalize(pixels, MEAN, STD), interpolate_pos_encoding=True)
        finally:
            hook.remove()
        return keys[0].transpose(1, 2)[..., None]


def _load(checkpoint: str, only_cached: bool) -> Any:
    from transformers import ViTModel

    return ViTModel.from_pretrained(
        checkpoint,
        add_pooling_layer=False,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=only_cached,
    ).eval()
