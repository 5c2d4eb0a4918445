"""Runs an editor on a batch, so that an editor that fails costs only its own edits."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import get_args

import torch

from renoise.core.schedule import Schedule
from renoise.editing.base import Editor, EditRequest, Need
from renoise.editing.region import restrict
from renoise.errors import prefixed
from renoise.inversion.base import Inversion, Inverter, Sampler
from renoise.inversion.other_steps import check_same_steps
from renoise.models.attention import check_attention, kept_attention
from renoise.models.base import DiffusionModel
from renoise.utils.halves import in_halves, problem_of


def name_editors(editors: Sequence[Editor]) -> dict[str, Editor]:
    """Returns editors by the name of their output folder: the class name, numbered from the second of a class on."""
    named: dict[str, Editor] = {}
    for editor in editors:
        name = type(editor).__name__
        same = sum(type(other).__name__ == name for other in named.values())
        named[f"{name}-{same + 1}" if same else name] = editor
    return named


def check_needs(
    editor: Editor,
    model: DiffusionModel,
    schedule: Schedule,
    inverter: Inverter | None = None,
    num_inversion_steps: int | None = None,
) -> None:
    """Checks that a model and its sampler provide what an editor needs, then calls the editor's own `check`.

    Args:
        editor: The editor.
        model: The model that images will be inverted with.
        schedule: The sampler's steps.
        inverter: The inversion method. None where there is an inversion already, which `check_inversion` checks.
        num_inversion_steps: Number of steps of the inversion. None where they are the sampler's.

    Raises:
        ValueError: They do not, or `needs` contains an unknown name.
    """
    name = type(editor).__name__
    known = get_args(Need)
    if not (isinstance(editor.needs, Set) and editor.needs <= set(known)):
        raise ValueError(f"{name}: needs must be a set of {', '.join(map(repr, known))}, got {editor.needs!r}")
    with prefixed(f"{name}: "):
        model.check_guidance(getattr(editor, "guidance_scale", 1.0))
    if "noise" in editor.needs:
        schedule.check_stochastic(name)
    if "attention" in editor.needs:
        check_attention(model.network, name)
    if inverter is not None:
        _check_sampler(editor, inverter.sampler)
    if "trajectory" in editor.needs:
        check_same_steps(_subject(editor), schedule, num_inversion_steps)
    editor.check(model, schedule)


def check_inversion(editor: Editor, inversion: Inversion) -> None:
    """Checks that an inversion kept what an editor needs.

    Args:
        editor: The editor.
        inversion: The inversion to edit.

    Raises:
        ValueError: It did not.
    """
    name = type(editor).__name__
    if "trajectory" in editor.needs and inversion.trajectory is None:
        subject = _subject(editor)
        check_same_steps(subject, inversion.schedule, inversion.num_inversion_steps)
        raise ValueError(f"{subject} needs an inversion that kept its trajectory: invert with keep_trajectory=True")
    if "image" in editor.needs and inversion.image is None:
        raise ValueError(
            f"{name} needs z_0 of the images, and this inversion has none; invert again, or save inversions with "
            "keep_trajectory=True"
        )
    if "noise" in editor.needs and inversion.noise is None:
        inversion.schedule.check_stochastic(name)
        raise ValueError(f"{name} needs an inversion that kept its noise, and this one has none")
    _check_sampler(editor, inversion.sampler)


def _subject(editor: Editor) -> str:
    """Returns the name of an editor that needs the trajectory, with the strength that causes it."""
    name, strength = type(editor).__name__, getattr(editor, "strength", 1)
    return f"{name} with strength {strength:g}" if strength < 1 else name


def _check_sampler(editor: Editor, sampler: Sampler | None) -> None:
    """Raises ValueError where an editor takes the steps of the schedule, and the inversion has another sampler."""
    if "steps" in editor.needs and sampler is not None:
        raise ValueError(
            f"{type(editor).__name__} takes each step of the schedule itself, and {type(sampler).__name__} has a "
            "sampler of its own; edit with PromptSwap or NegativePrompt, or invert with ReNoise"
        )


def run_editor(
    editor: Editor,
    model: DiffusionModel,
    inversion: Inversion,
    requests: Sequence[EditRequest],
    refused: Sequence[str | None] | None = None,
) -> list[torch.Tensor | str]:
    """Edits B images. If the editor raises for several images, they are tried in halves, down to each alone.

    Args:
        editor: The editor.
        model: The model that the images were inverted with.
        inversion: The inversion of the B images.
        requests: B requests, in the order of `inversion`.
        refused: Why each image is not to be edited, or None where it is. None edits all of them.

    Returns:
        For each image the edited image, float32 [3, H, W] on the CPU, or the reason why there is none.
    """
    outcomes: list[torch.Tensor | str | None] = [
        reason or _refusal(editor, request)
        for request, reason in zip(requests, refused or [None] * len(requests), strict=True)
    ]
    accepted = [index for index, outcome in enumerate(outcomes) if outcome is None]
    if accepted:
        edited = _edit(editor, model, inversion.select(accepted), [requests[index] for index in accepted])
        for index, outcome in zip(accepted, edited, strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _refusal(editor: Editor, request: EditRequest) -> str | None:
    """Returns why an image is not edited, or None."""
    try:
        return editor.refusal(request)
    except Exception as error:  # another package's editor may raise anything; the run must go on
        return problem_of(error)


def _edit(
    editor: Editor, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]
) -> list[torch.Tensor | str]:
    """Returns the edited image, or the reason why there is none, for each image that was not refused."""
    try:
        check_inversion(editor, inversion)
        inversion = restrict(inversion, requests)
    except ValueError as error:
        return [str(error)] * len(requests)

    def run(index: Sequence[int]) -> list[torch.Tensor | str]:
        part = [requests[position] for position in index]
        with kept_attention(model.network):
            images = editor.edit(model, inversion.select(index), part).float().cpu()
        if images.ndim != 4 or images.shape[:2] != (len(part), 3):
            raise ValueError(f"the edits must be [{len(part)}, 3, height, width], got {list(images.shape)}")
        return [image if image.isfinite().all() else "the edited image contains NaN or infinity" for image in images]

    return in_halves(range(len(requests)), run, lambda _, problem: problem)
