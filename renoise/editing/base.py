"""What an editing method is, and how the project finds those that are installed."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal, get_args

import torch

from renoise.core.schedule import Schedule
from renoise.errors import InputError, InputWarning
from renoise.inversion.base import Inversion
from renoise.models.attention import check_attention, kept_attention
from renoise.models.base import DiffusionModel

ENTRY_POINT_GROUP = "renoise.editors"


Need = Literal["trajectory", "noise", "attention"]
"""What an editor may ask for: the latents of every level, a sampler that draws noise, attention that can be watched."""


@dataclass(frozen=True)
class EditRequest:
    """What is asked of an editor for one image.

    `prompt` describes the image and was inverted with; `edit_prompt` is the wished-for description, None where the
    image came without one.
    """

    file_name: str
    prompt: str
    edit_prompt: str | None


class Editor(ABC):
    """An editing method: a class with typed constructor arguments, named in YAML by its class name.

    Installed packages register theirs under the entry-point group `renoise.editors`.
    """

    needs: frozenset[Need] = frozenset()
    """What `edit` cannot do without; `Inversion.trajectory` is kept only where an editor asks for it."""

    def check(self, model: DiffusionModel, schedule: Schedule) -> None:  # noqa: B027 (most editors serve every model)
        """Raises InputError where this editor cannot serve the model or its sampler; asked before any image is read."""

    @abstractmethod
    def refusal(self, request: EditRequest) -> str | None:
        """Why this image cannot be edited, or None where it can; asked before any edit of the batch is made."""

    @abstractmethod
    def edit(self, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Edits a batch of images, none of which `refusal` turned away.

        Args:
            model: the model that the images were inverted with.
            inversion: of these B images.
            requests: B of them, in the same order.

        Returns:
            The edited images, [B, 3, H, W] in [0, 1].
        """


def check_needs(editor: Editor, model: DiffusionModel, schedule: Schedule) -> None:
    """Raises InputError where the model or its sampler cannot give what an editor needs; calls its own `check` too."""
    name = type(editor).__name__
    known = get_args(Need)
    if not (isinstance(editor.needs, Set) and editor.needs <= set(known)):
        raise InputError(f"{name}.needs must be a set of {', '.join(map(repr, known))}, got {editor.needs!r}")
    if "noise" in editor.needs:
        schedule.check_stochastic(name)
    if "attention" in editor.needs:
        check_attention(model.pipeline.unet, name)
    editor.check(model, schedule)


def run_editor(
    editor: Editor, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]
) -> list[torch.Tensor | str]:
    """What an editor makes of each of B images: the edit, float32 [3, H, W] on the CPU, or why there is none.

    Where an edit of several raises, each is tried alone, so that one image does not cost the others theirs.
    """
    refusals = [_refusal(editor, request) for request in requests]
    able = [row for row, refusal in enumerate(refusals) if refusal is None]
    made = _edited(editor, model, inversion.select(able), [requests[row] for row in able]) if able else []
    edited = dict(zip(able, made, strict=True))
    return [edited[row] if refusal is None else refusal for row, refusal in enumerate(refusals)]


def _refusal(editor: Editor, request: EditRequest) -> str | None:
    try:
        return editor.refusal(request)
    except Exception as error:  # a stranger's, as in `_edited`
        return _in_words(error)


def _edited(
    editor: Editor, model: DiffusionModel, inversion: Inversion, requests: Sequence[EditRequest]
) -> list[torch.Tensor | str]:
    try:
        with kept_attention(model.pipeline.unet):
            images = editor.edit(model, inversion, requests).float().cpu()
        if images.ndim != 4 or images.shape[:2] != (len(requests), 3):
            raise ValueError(f"the edits must be [{len(requests)}, 3, height, width], got {list(images.shape)}")
    except Exception as error:  # a stranger's editor may raise anything; inversions and other edits must go on
        if len(requests) == 1:
            return [_in_words(error)]
        alone = [_edited(editor, model, inversion.select([row]), [each]) for row, each in enumerate(requests)]
        return [outcome for outcomes in alone for outcome in outcomes]
    return [image if image.isfinite().all() else "the edit turned NaN or infinite" for image in images]


def _in_words(error: Exception) -> str:
    """On one line, for the manifest."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def load_editors() -> dict[str, type[Editor]]:
    """Every registered editor by its class name; importing them is what lets YAML use the short names.

    One that fails to import, is no `Editor`, or has another's class name, is named in a warning and left out here.
    """
    editors: dict[str, type[Editor]] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            editor = entry_point.load()
        except Exception as error:  # a stranger's package may raise anything; the others must go on
            problem = f"the editor {entry_point.name} ({entry_point.value}) cannot be imported: {error}"
            warnings.warn(problem, InputWarning, stacklevel=2)
            continue
        if not (isinstance(editor, type) and issubclass(editor, Editor)):
            problem = f"{entry_point.name} ({entry_point.value}) is not a renoise.editing.base.Editor"
            warnings.warn(problem, InputWarning, stacklevel=2)
            continue
        if editor.__name__ in editors:
            problem = f"{entry_point.name} ({entry_point.value}): there is another editor called {editor.__name__}"
            warnings.warn(f"{problem}; YAML needs the full class path of either", InputWarning, stacklevel=2)
            continue
        editors[editor.__name__] = editor
    return editors
