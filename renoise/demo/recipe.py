"""The command line and the Python code that do what a visitor did."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Any

from renoise.one_image.options import DEFAULT_PRESET, PRESET_OF_MODELS, EditOptions, InvertOptions


def command_line(options: InvertOptions) -> str:
    """Returns the command that inverts or edits a picture.

    Args:
        options: Of the inversion, or of the edit.
    """
    is_edit = isinstance(options, EditOptions)
    words = ["renoise", "edit" if is_edit else "invert", str(options.image), options.text or ""]
    if isinstance(options, EditOptions):
        words.append(options.edit_text)
    given: dict[str, Any] = {"model": options.model}
    if options.preset != (DEFAULT_PRESET if options.model is None else PRESET_OF_MODELS):
        given["preset"] = options.preset
    if isinstance(options, EditOptions):
        given |= {"editor": options.editor, "guidance_scale": options.guidance_scale, "strength": options.strength}
        given["mask"] = options.mask
    lines = [shlex.join(words)]
    lines += [f"  {shlex.join([f'--{name}', _value(value)])}" for name, value in given.items() if value is not None]
    return " \\\n".join(lines)


def python_of_inversion(options: InvertOptions, side: int, device: str, keep_trajectory: bool) -> str:
    """Returns the Python code that inverts a picture.

    Args:
        options: Of the inversion.
        side: Side in pixels of the square that the picture is brought to.
        device: Type of the device that the model runs on.
        keep_trajectory: Whether the inversion keeps the latents of every step.
    """
    loading = [] if options.model is None else [repr(options.model)]
    loading.append(f"preset={options.preset!r}")
    loading += [] if device == "cpu" else [f"device={device!r}"]
    inverting = [repr(str(options.image)), repr(options.text), f"resolution={side}"]
    inverting += ["keep_trajectory=True"] if keep_trajectory else []
    stem = PurePosixPath(options.image.name).stem
    return (
        "import renoise\n\n"
        f"model = renoise.load({', '.join(loading)})\n"
        f"inversion = model.invert({', '.join(inverting)})\n"
        "(reconstruction,) = inversion.reconstruct()\n"
        f"inversion.save({f'{stem}.safetensors'!r})\n"
        f"reconstruction.save({f'{stem}-reconstruction.png'!r})\n"
    )


def python_of_edit(options: EditOptions, editor: str, init_args: dict[str, Any], name: str) -> str:
    """Returns the Python code that follows `python_of_inversion` and edits the picture.

    Args:
        options: Of the edit.
        editor: Name of the editing method.
        init_args: Its options.
        name: Name of the file of the edit.
    """
    given = {option: value for option, value in init_args.items() if value is not None}
    setting = {"class_path": editor, "init_args": given}
    code = (
        f"\neditor = renoise.instantiate(renoise.Editor, {setting!r})\n"
        f"(edited,) = inversion.edit({options.edit_text!r}, editor=editor)\n"
    )
    if options.mask is not None:
        code += (
            "\nfrom pathlib import Path\n"
            "from torchvision.transforms.functional import to_tensor\n"
            "from renoise.one_image.picture import open_picture\n"
            "from renoise.outputs.images import to_pil\n\n"
            f"picture = open_picture(Path({str(options.image)!r}), Path({str(options.mask)!r}))\n"
            "edited = to_pil(picture.keep_outside_of_mask(to_tensor(edited)))\n"
        )
    return f"{code}edited.save({name!r})\n"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
