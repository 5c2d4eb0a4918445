"""Inverted images: reconstructs, edits and saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from renoise.api.image_inputs import one_for_each
from renoise.editing.base import Editor, EditRequest
from renoise.editing.prompt_editor import PromptEditor
from renoise.editing.region import restrict
from renoise.editing.runner import check_inversion, check_needs
from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.inversion.sampling import sample
from renoise.models.attention import kept_attention
from renoise.models.base import DiffusionModel
from renoise.outputs.images import to_pil
from renoise.outputs.inversion_file import inversion_metadata, inversion_tensors, save_inversion
from renoise.utils.files import write_atomically
from renoise.utils.progress import show_progress

SUFFIX = ".safetensors"


class InvertedImages:
    """B images that were inverted. `InversionPipeline.invert` makes them.

    Args:
        model: What they were inverted with.
        inversion: Their inversion.
        prompts: B prompts that describe them.
        names: B names.
        time_ids: SDXL's sizes, float32 [B, 6].
        settings: How they were inverted, in JSON types. It is saved with them.

    Example:
        >>> import renoise
        >>> pipeline = renoise.load("data/models/tiny-sd", num_inference_steps=2)
        >>> images = pipeline.invert("data/images/scenes/00-cat.png", "a cat on a checkered green background")
        >>> images.reconstruct()
        [<PIL.Image.Image image mode=RGB size=64x64 at ...>]
    """

    def __init__(
        self,
        model: DiffusionModel,
        inversion: Inversion,
        prompts: Sequence[str],
        names: Sequence[str],
        time_ids: torch.Tensor,
        settings: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.inversion = inversion
        self.prompts = list(prompts)
        self.names = list(names)
        self.time_ids = time_ids
        self.settings = dict(settings)

    def __len__(self) -> int:
        return len(self.names)

    @torch.no_grad()
    def reconstruct(self, progress: bool | None = None) -> list[Image.Image]:
        """Samples the images from their inversion.

        Args:
            progress: Whether to show a progress bar. None shows it where stderr is a terminal.
        """
        with show_progress(progress):
            return self._decode(sample(self.model, self.inversion))

    @torch.no_grad()
    def edit(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        editor: Editor | None = None,
        guidance_scale: float | None = None,
        strength: float | None = None,
        mask: torch.Tensor | Sequence[torch.Tensor] | None = None,
        progress: bool | None = None,
    ) -> list[Image.Image]:
        """Edits the images.

        Args:
            prompt: Describes the edited images: one prompt for all, or one for each. An editor may do without.
            editor: The editing method. None samples under the prompt.
            guidance_scale: Guidance of the edit, 1 or more, 1.5 by default. An editor has its own.
            strength: Share of the steps to take, in (0, 1], 1 by default. An editor has its own. Below 1, the images
                must have been inverted with `keep_trajectory=True`.
            mask: Where the edits may change the images, bool [H, W]: one mask for all, or one for each. Latents of
                which no pixel may change stay exactly those of the image. The images must have been inverted with
                `keep_trajectory=True`.
            progress: Whether to show a progress bar. None shows it where stderr is a terminal.

        Raises:
            InputError: An option belongs to the editor; the editor cannot edit an image; or the inversion did not keep
                what the editor needs.
        """
        if editor is None:
            given = {"guidance_scale": guidance_scale, "strength": strength}
            options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            editor = _editor(options)
        elif guidance_scale is not None or strength is not None:
            raise InputError(f"guidance_scale and strength are options of the editor: {type(editor).__name__}(…)")
        edit_prompts = [None] * len(self) if prompt is None else one_for_each(prompt, len(self), "prompt")
        masks = [mask] * len(self) if mask is None or isinstance(mask, torch.Tensor) else list(mask)
        if len(masks) != len(self):
            raise InputError(f"mask: there are {len(masks)} masks and {len(self)} images")
        each = zip(self.names, self.prompts, edit_prompts, masks, strict=True)
        requests = [EditRequest(*request) for request in each]
        inversion = self._check(editor, requests)
        with show_progress(progress), kept_attention(self.model.network):
            edited = editor.edit(self.model, inversion, requests)
        return [to_pil(image) for image in edited.float()]

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the inversion: one image to a .safetensors file, several to a folder with a file for each.

        Args:
            path: The file, or the folder.

        Raises:
            InputError: There are several images, and the path is that of a file; or a name leads out of the folder.
        """
        target = Path(path).expanduser()
        if len(self) > 1 and target.suffix == SUFFIX:
            raise InputError(f"path: {target} is one file, and there are {len(self)} images; give a folder")
        outside = [name for name in self.names if not (target / name).resolve().is_relative_to(target.resolve())]
        if outside and target.suffix != SUFFIX:
            raise InputError(f"names: {outside[0]!r} leads out of the folder {target}; invert with other names")
        for index, (name, prompt) in enumerate(zip(self.names, self.prompts, strict=True)):
            file = target if target.suffix == SUFFIX else target / f"{name}{SUFFIX}"
            follows_trajectory = self.inversion.follows_trajectory
            metadata = inversion_metadata(
                self.settings, name, prompt, self.time_ids[index].tolist(), follows_trajectory
            )
            write_atomically(file, save_inversion(inversion_tensors(self.inversion, index), metadata))

    def _check(self, editor: Editor, requests: Sequence[EditRequest]) -> Inversion:
        """Checks that the images can be edited, and returns their inversion, restricted to the masks."""
        try:
            check_needs(editor, self.model, self.inversion.schedule)
            check_inversion(editor, self.inversion)
            inversion = restrict(self.inversion, requests)
        except ValueError as error:
            raise InputError(str(error)) from error
        refusals = {request.file_name: editor.refusal(request) for request in requests}
        reasons = [f"{name}: {refusal}" for name, refusal in refusals.items() if refusal is not None]
        if reasons:
            raise InputError(f"{type(editor).__name__} cannot edit {'; '.join(reasons)}")
        return inversion

    def _decode(self, latents: torch.Tensor) -> list[Image.Image]:
        return [to_pil(image) for image in self.model.decode_latents(latents)]


def _editor(options: dict[str, Any]) -> Editor:
    """Returns the editor that samples under a prompt.

    Raises:
        InputError: An option is out of range.
    """
    try:
        return PromptEditor(**options)
    except ValueError as error:
        raise InputError(str(error).removeprefix("PromptEditor: ")) from error
