"""What the commands for one picture draw: the edit, both beside the original, and how near the reconstruction is."""

from __future__ import annotations

import re

from PIL import Image
from torchvision.transforms.functional import to_tensor

from renoise.editing.base import Editor
from renoise.metrics.functional import psnr
from renoise.one_image.kept import Inverted
from renoise.one_image.options import EditOptions
from renoise.one_image.picture import MAX_NAME, Picture
from renoise.outputs.images import to_pil
from renoise.outputs.side_by_side import Panel, side_by_side


def draw_edit(picture: Picture, inverted: Inverted, editor: Editor, edit_text: str) -> Image.Image:
    """Edits a picture. Outside of its mask the pixels are those of the picture.

    Args:
        picture: The picture, with its mask.
        inverted: Its inversion.
        editor: The editing method.
        edit_text: What the picture is to show.

    Raises:
        InputError: The editor cannot edit it.
    """
    (drawn,) = inverted.images.edit(edit_text, editor=editor)
    return to_pil(picture.keep_outside_of_mask(to_tensor(drawn)))


def draw_comparison(picture: Picture, inverted: Inverted, edited: Image.Image, edit_text: str) -> Image.Image:
    """Returns the original, the reconstruction and an edit beside each other, with their texts."""
    (text,) = inverted.images.prompts
    panels = [
        Panel(to_pil(picture.pixels(edited.width)), "original", picture.path.name),
        Panel(inverted.reconstruction, "reconstruction", text),
        Panel(edited, "edit", edit_text),
    ]
    return side_by_side(panels)


def reconstruction_psnr(picture: Picture, reconstruction: Image.Image) -> float:
    """Returns the PSNR of a reconstruction against the middle square of its picture, in dB."""
    return float(psnr(to_tensor(reconstruction)[None], picture.pixels(reconstruction.width)[None]))


def edit_name(options: EditOptions) -> str:
    """Returns the name of an edit: its text, and the options that are not the preset's."""
    given = {"guidance": options.guidance_scale, "strength": options.strength}
    words = [options.edit_text[:MAX_NAME], (options.editor or "")[:MAX_NAME]]
    words += [f"{name} {value:g}" for name, value in given.items() if value is not None]
    words += ["mask"] if options.mask else []
    return re.sub(r"[^\w.]+", "-", " ".join(words)).strip("-.")
