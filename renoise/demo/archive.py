"""The ZIP file with everything of a visitor."""

from __future__ import annotations

import zipfile
from pathlib import Path

from renoise.one_image.kept import INVERSIONS


def write_archive(folder: Path, target: Path) -> None:
    """Packs a visitor's files: picture, inversion, reconstruction, edits, comparisons and masks.

    Args:
        folder: The visitor's folder.
        target: The ZIP file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder)
            if name.parts[0] == INVERSIONS and path.suffix != ".safetensors":
                continue  # the reconstruction is among the edits; a caption is on the page
            archive.write(path, name.as_posix())
