"""Removes the output of a run, and checks first that it can be removed and that nothing else is lost by it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from renoise.errors import InputError
from renoise.outputs.files import SHARDS, is_shard
from renoise.outputs.thumbnails import THUMBNAILS

FOLDERS = {
    **{"inversions": ".safetensors", "reconstructions": ".png", "edits": ".png"},
    **{SHARDS: ".tar", THUMBNAILS: ".png"},
}
"""Folders of outputs, and the suffixes of the files that a run writes there."""


def check_apart(folder: Path, root: Path | None, image_folders: Iterable[Path]) -> None:
    """Refuses to write among the images: the next run would invert the pictures of this one, or remove its own images.

    Args:
        folder: The output folder.
        root: The folder of the data set.
        image_folders: Folders of images.

    Raises:
        InputError: `root` is the output folder, or images are in one of its folders of outputs.
    """
    output = os.path.realpath(folder)
    if root is not None and os.path.realpath(root) == output:
        raise InputError(f"trainer.default_root_dir: {folder} is also data.root; choose another folder")
    for path in {*image_folders, *([root] if root is not None else [])}:
        found = Path(os.path.realpath(path))
        if found.is_relative_to(output) and found.relative_to(output).parts[:1] in {(name,) for name in FOLDERS}:
            raise InputError(
                f"trainer.default_root_dir: {folder} contains {path}, whose images this run reads, among its outputs; "
                "choose another folder"
            )


def check_removable(folder: Path) -> None:
    """Checks that the outputs in a folder can be removed, before any of them is.

    Args:
        folder: The output folder.

    Raises:
        InputError: A folder of outputs is a link, or a folder may not be changed.
    """
    for name in FOLDERS:
        if (folder / name).is_symlink():
            raise InputError(
                f"trainer.default_root_dir: {folder / name} is a link, whose target is not removed; remove the "
                "link, or choose another folder"
            )
    for path in [folder, *(Path(path) for name in FOLDERS for path, _, _ in os.walk(folder / name))]:
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"trainer.default_root_dir: {path} cannot be changed; give yourself write permission")


def remove_outputs(folder: Path, files: Iterable[Path]) -> None:
    """Removes what runs have written: all files with their suffixes in the folders of outputs. Other files stay there.

    Args:
        folder: The output folder.
        files: Files of the run beside the folders of outputs. They are removed first.

    Raises:
        OSError: The file system refuses.
    """
    for path in files:
        path.unlink(missing_ok=True)
    for name, suffix in FOLDERS.items():
        for directory, _, found in os.walk(folder / name, topdown=False):
            for file in found:
                if is_shard(file) if name == SHARDS else file.removesuffix(".tmp").endswith(suffix):
                    os.unlink(os.path.join(directory, file))
            with suppress(OSError):  # a person's files are in it
                os.rmdir(directory)
