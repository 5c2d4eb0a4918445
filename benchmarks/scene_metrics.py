"""Metrics of edits in the miniature world, where it is known what an edit should look like.

`renoise evaluate` takes them by their class paths, such as `benchmarks.scene_metrics.TargetAnimal`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from renoise import EditComparison, EditMetric, psnr, read_image, register_metric
from tiny_models.judge import SceneJudge
from tiny_models.scenes import SUBJECTS


class JudgedAnimal(EditMetric):
    """100 where a classifier recognizes the animal of the edit prompt, else 0: means are percentages."""

    judge: ClassVar[str]
    """Folder of the classifier."""
    format, higher_is_better, uses_prompts = ".1f", True, True

    def __init__(self) -> None:
        self.classifier = SceneJudge.from_pretrained(self.judge)

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        wanted = torch.tensor([_subject(prompt) for prompt in comparison.edit_prompts])
        return 100.0 * (self.classifier(comparison.edits.cpu()).subjects == wanted)


@register_metric
class TargetAnimal(JudgedAnimal):
    """Share of edits in which `scene-classifier` recognizes the animal asked for."""

    name, title, judge = "target_animal", "target animal (%)", "data/models/scene-classifier"


@register_metric
class StrictTargetAnimal(JudgedAnimal):
    """Share of edits in which `strict-classifier` recognizes the animal asked for and little else."""

    name, title, judge = "strict_target_animal", "strict judge (%)", "data/models/strict-classifier"


@register_metric
class TrueEditPSNR(EditMetric):
    """PSNR of an edit to the scene drawn with the animal asked for.

    Args:
        folder: With the true edits under the names of the images, as `benchmarks.scene_folder` writes them.
    """

    name, title, format, higher_is_better = "true_edit_psnr", "PSNR to the true edit (dB)", ".2f", True

    def __init__(self, folder: str = "out/unseen/true_edits") -> None:
        self.folder = Path(folder)

    def __call__(self, comparison: EditComparison) -> Tensor:
        """See `EditMetric`."""
        size: Any = comparison.edits.shape[-2:]
        truth = torch.stack([read_image(self.folder / name, tuple(size)).pixels for name in comparison.names])
        return psnr(comparison.edits, truth.to(comparison.edits))


def _subject(prompt: str) -> int:
    """Returns the position in `SUBJECTS` of the animal that a caption names, or -1."""
    return next((SUBJECTS.index(word) for word in prompt.split() if word in SUBJECTS), -1)
