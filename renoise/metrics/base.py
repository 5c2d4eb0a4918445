"""The interface of a metric, and what it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """B images and what the model made of them: everything that a metric may compare.

    Args:
        images: The originals, float32 [B, 3, H, W] in [0, 1].
        reconstructions: The images that sampling from the inversion gives, [B, 3, H, W] in [0, 1].
        latents: z_0 as encoded from the originals, [B, C, h, w].
        rebuilt_latents: z_0 as sampling gives it, [B, C, h, w].
        decoded: `latents` decoded, without any inversion: the autoencoder's own round trip, [B, 3, H, W] in [0, 1].
            None where no metric of the run uses it.

    Example:
        >>> import torch
        >>> from renoise import Comparison
        >>> from renoise.metrics import LatentMSE
        >>> images, latents = torch.rand(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> LatentMSE()(Comparison(images, images, latents, latents + 0.5, images))
        tensor([0.2500, 0.2500])
    """

    images: Tensor
    reconstructions: Tensor
    latents: Tensor
    rebuilt_latents: Tensor
    decoded: Tensor | None = None

    @property
    def results(self) -> Tensor:
        """The images that are compared with the originals: the reconstructions."""
        return self.reconstructions


@dataclass(frozen=True)
class EditComparison:
    """B images and their edits: everything that a metric of an edit may compare.

    Args:
        images: The originals, float32 [B, 3, H, W] in [0, 1].
        edits: The edited images, [B, 3, H, W] in [0, 1]. Published tables compare images as they are saved, with values
            that are multiples of 1/255.
        prompts: What each original shows.
        edit_prompts: What each edited image should show.
        masks: The region that the edit should change, bool [B, H, W]; the rest is the background. None where the data
            has no masks.
        names: The images' names in the data set.

    Example:
        >>> import torch
        >>> from renoise import EditComparison, make_edit_metrics
        >>> images, masks = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool)
        >>> edits = images + 0.1
        >>> comparison = EditComparison(images, edits, ["a cat"], ["a dog"], masks)
        >>> make_edit_metrics(["background_psnr"])["background_psnr"](comparison)
        tensor([20.])
    """

    images: Tensor
    edits: Tensor
    prompts: Sequence[str]
    edit_prompts: Sequence[str]
    masks: Tensor | None = None
    names: Sequence[str] = ()

    @property
    def results(self) -> Tensor:
        """The images that are compared with the originals: the edits."""
        return self.edits


class AnyMetric(ABC):
    """What a metric of reconstructions and one of edits have in common: a column."""

    name: ClassVar[str]
    """The column of the manifest, the key in summary.json and the name in `model.metrics`."""
    title: ClassVar[str]
    """Heading in tables, with the unit."""
    format: ClassVar[str]
    """Format specification of a value in tables, such as ".2f"."""
    higher_is_better: ClassVar[bool]


class Metric(AnyMetric):
    """A number for each image of a batch. A metric is one subclass with the attributes below and `@register_metric`.

    Example:
        >>> from renoise.metrics import METRICS, Metric, register_metric
        >>> @register_metric
        ... class LargestError(Metric):
        ...     name, title, format, higher_is_better = "largest_error", "largest error", ".3f", False
        ...
        ...     def __call__(self, comparison):
        ...         return (comparison.reconstructions - comparison.images).abs().amax(dim=(1, 2, 3))
        >>> METRICS.pop("largest_error").title
        'largest error'
    """

    uses_decoded: ClassVar[bool] = True
    """Whether it reads `Comparison.decoded`. A run whose metrics do not saves one decoding of every image."""

    @abstractmethod
    def __call__(self, comparison: Comparison) -> Tensor:
        """Returns the metric of each image, [B].

        Args:
            comparison: B images.
        """


class EditMetric(AnyMetric):
    """A number for each edited image of a batch. A subclass has the attributes of `Metric`, and `@register_metric`.

    A value is NaN where an image has none, such as an empty background, and infinite for the PSNR of equal images.

    Example:
        >>> from renoise import EditMetric
        >>> from renoise.metrics import EDIT_METRICS, register_metric
        >>> @register_metric
        ... class EditedShare(EditMetric):
        ...     name, title, format, higher_is_better, uses_mask = "edited_share", "edited share", ".2f", False, True
        ...
        ...     def __call__(self, comparison):
        ...         return comparison.masks.float().mean(dim=(1, 2))
        >>> EDIT_METRICS.pop("edited_share").uses_mask
        True
    """

    uses_mask: ClassVar[bool] = False
    """Whether it reads `EditComparison.masks`. It cannot be computed for data without masks."""
    uses_prompts: ClassVar[bool] = False
    """Whether it reads the prompts."""

    @abstractmethod
    def __call__(self, comparison: EditComparison) -> Tensor:
        """Returns the metric of each edited image, [B].

        Args:
            comparison: B images and their edits.
        """


class PairMetric(Metric, EditMetric):
    """A metric that compares reconstructions, or edits, with the originals, and reads nothing else."""

    uses_decoded = False

    @abstractmethod
    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the metric of each image, [B].

        Args:
            images: Reconstructions or edits, [B, 3, H, W] in [0, 1].
            targets: The originals, [B, 3, H, W] in [0, 1].
        """

    def __call__(self, comparison: Comparison | EditComparison) -> Tensor:
        """See `Metric` and `EditMetric`."""
        return self.compare(comparison.results, comparison.images)
