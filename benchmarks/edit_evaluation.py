"""How well an editing method swaps the animal of inverted scenes, and what it leaves as it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.evaluation import images_of
from benchmarks.network_calls import network_calls, rows
from renoise.editing.base import Editor, EditRequest
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.metrics import functional as metrics
from renoise.models.base import DiffusionModel
from tiny_models.data import labels
from tiny_models.judge import SceneJudge
from tiny_models.scenes import Scene


@dataclass(frozen=True)
class EditEvaluation:
    """Means over the images that were edited.

    Args:
        target_share: edits that show the animal asked for, in [0, 1].
        target_psnr: of the edits against the scenes drawn with that animal, in dB.
        background_psnr: against the image itself, where neither animal stands, in dB.
        background_ssim: likewise, in [-1, 1].
        structure_distance: of the edits' layout from the image's, see `metrics.structure_distance`.
        nfe: that editing one image took, forwards.
        seconds: of processor time that editing one image took, those of all threads together.
        inversion_rows: that inverting one image took.
        refused_share: images without an edit, since their inversion failed or the method turned them away.
    """

    target_share: float
    target_psnr: float
    background_psnr: float
    background_ssim: float
    structure_distance: float
    nfe: float
    seconds: float
    inversion_rows: float
    refused_share: float = 0.0


@torch.no_grad()
def evaluate_editor(
    editor: Editor,
    model: DiffusionModel,
    inversion: Inversion,
    scenes: Sequence[Scene],
    targets: Sequence[Scene],
    judge: SceneJudge,
    batch_size: int = 32,
) -> EditEvaluation:
    """Edits scenes into others and compares.

    Args:
        editor: to be judged.
        model: the model that the scenes were inverted with.
        inversion: of all the scenes, with everything that the editor needs.
        scenes: what was inverted, under their captions.
        targets: the same scenes with other subjects.
        judge: says which subject an image shows.
        batch_size: scenes side by side.

    Raises:
        InputError: not one scene can be edited.
    """
    requests = requests_of(scenes, targets)
    refusals = [inversion.failures.get(row) or editor.refusal(request) for row, request in enumerate(requests)]
    able = [row for row, refusal in enumerate(refusals) if refusal is None]
    if not able:
        raise InputError(f"{type(editor).__name__} can edit none of the scenes: {refusals[0]}")
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(able), batch_size):
        batch = able[start : start + batch_size]
        part, each = inversion.select(batch), [requests[row] for row in batch]
        with network_calls(model.unet, rows) as calls:
            started = time.process_time()  # other work on the machine does not stretch it
            edited = editor.edit(model, part, each).float().cpu()
            seconds = time.process_time() - started
        parts.append(compared(edited, [scenes[row] for row in batch], [targets[row] for row in batch], judge))
        parts[-1]["nfe"] = torch.full((len(batch),), sum(calls) / len(batch))
        parts[-1]["seconds"] = torch.full((len(batch),), seconds / len(batch))
        parts[-1]["inversion_rows"] = part.nfe
    means = {name: torch.cat([part[name].cpu().double() for part in parts]).mean().item() for name in parts[0]}
    return EditEvaluation(**means, refused_share=1 - len(able) / len(scenes))


def requests_of(scenes: Sequence[Scene], targets: Sequence[Scene]) -> list[EditRequest]:
    """To edit scenes into others, by their captions; they are named as `InversionSetting.invert` names them."""
    pairs = enumerate(zip(scenes, targets, strict=True))
    return [EditRequest(str(row), scene.caption, target.caption) for row, (scene, target) in pairs]


def compared(
    edited: torch.Tensor, scenes: Sequence[Scene], targets: Sequence[Scene], judge: SceneJudge
) -> dict[str, torch.Tensor]:
    """What edits are worth, each [B]; names as in `EditEvaluation`.

    Args:
        edited: [B, 3, 64, 64] in [0, 1], on the CPU.
        scenes: what was edited.
        targets: what was asked for.
        judge: says which subject an image shows.
    """
    images, mask = images_of(scenes), background(scenes, targets)
    return {
        "target_share": judge(edited).subjects.cpu() == labels(list(targets))[:, 0],
        "target_psnr": metrics.psnr(edited, images_of(targets)),
        "background_psnr": metrics.masked_psnr(edited, images, mask),
        "background_ssim": metrics.masked_ssim(edited, images, mask),
        "structure_distance": metrics.structure_distance(judge.features(edited), judge.features(images)),
    }


def background(scenes: Sequence[Scene], targets: Sequence[Scene]) -> torch.Tensor:
    """1 where neither the scene's animal nor the target's covers or touches a pixel, else 0, [B, 64, 64].

    Pixels that touch an animal take some of it as the scene is shrunk: with them, the true edit itself would come to
    33 dB, about what the autoencoder loses.
    """
    covered = [np.maximum(scene.mask(), target.mask()) for scene, target in zip(scenes, targets, strict=True)]
    touched = F.max_pool2d(torch.from_numpy(np.stack(covered)), kernel_size=3, stride=1, padding=1)
    return (touched == 0).float()
