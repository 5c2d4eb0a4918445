"""What an editing method is, and how the project finds those that are installed."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

import torch

from renoise.denoiser import Denoiser
from renoise.errors import InputWarning
from renoise.inversion import Inversion

ENTRY_POINT_GROUP = "renoise.editors"


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

    needs_trajectory: bool = False
    """Whether `edit` looks at `Inversion.trajectory`, which is kept only then."""

    @abstractmethod
    def refusal(self, request: EditRequest) -> str | None:
        """Why this image cannot be edited, or None where it can; asked before any edit of the batch is made."""

    @abstractmethod
    def edit(self, denoiser: Denoiser, inversion: Inversion, requests: Sequence[EditRequest]) -> torch.Tensor:
        """Edits a batch of images, none of which `refusal` turned away.

        Args:
            denoiser: the model that the images were inverted with.
            inversion: of these B images.
            requests: B of them, in the same order.

        Returns:
            The edited images, [B, 3, H, W] in [0, 1].
        """


def load_editors() -> dict[str, type[Editor]]:
    """Every registered editor by its class name; importing them is what lets YAML use the short names.

    One that fails to import, or is no `Editor`, is named in a warning and left out.
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
            problem = f"{entry_point.name} ({entry_point.value}) is not a renoise.editing.Editor"
            warnings.warn(problem, InputWarning, stacklevel=2)
            continue
        editors[editor.__name__] = editor
    return editors
