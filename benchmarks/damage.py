"""Ways in which image files go wrong."""

from __future__ import annotations

import contextlib
import io
import os
import random
from pathlib import Path

from PIL import Image

RARE_FORMS: tuple[tuple[str, str, tuple[int, int] | None], ...] = (
    ("CMYK", "JPEG", None),
    ("I;16", "PNG", None),
    ("P", "GIF", None),
    ("1", "BMP", None),
    ("LA", "PNG", None),
    ("RGB", "TIFF", (1, 1)),
    ("RGB", "WEBP", (900, 1)),
    ("RGBA", "PNG", (1, 300)),
)
"""Modes, formats and sizes that are valid but rare."""


def damage(path: Path, rng: random.Random) -> None:
    """Replaces a good image by a damaged or rare one, in one of ten ways."""
    content = bytearray(path.read_bytes())
    way = rng.randrange(10)
    if way == 0:  # a copy that was cut off
        content = content[: rng.randrange(len(content))]
    elif way in (1, 2):  # flipped bits
        for _ in range(rng.choice((1, 8, 64))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif way == 3:  # a hole
        place = rng.randrange(len(content))
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    elif way == 4:  # additional bytes
        place = rng.randrange(len(content))
        content[place:place] = rng.randbytes(rng.randrange(1, 300))
    elif way == 5:  # no image
        content = bytearray(rng.randbytes(rng.choice((0, 1, 8, 4096))))
    elif way == 6:  # impossible sizes
        content[16:24] = rng.randbytes(8)
    path.unlink()
    if way == 7:  # a link to nothing, to itself, or out of the folder
        path.symlink_to(rng.choice(("nowhere.png", path.name, "../../../../etc/hostname")))
    elif way == 8:
        _make_special_file(path, rng)
    elif way == 9:
        path.write_bytes(_in_rare_form(bytes(content), rng))
    else:
        path.write_bytes(content)


def _in_rare_form(content: bytes, rng: random.Random) -> bytes:
    """Returns the same image in a rare form, whatever the file's name says."""
    rare = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        mode, kind, size = rng.choice(RARE_FORMS)
        image.convert("L" if mode == "I;16" else mode).resize(size or image.size).convert(mode).save(rare, kind)
    return rare.getvalue()


def _make_special_file(path: Path, rng: random.Random) -> None:
    """Makes a named pipe, or a file without permissions."""
    if rng.random() < 0.5:
        os.mkfifo(path)
    else:
        path.touch()
        with contextlib.suppress(PermissionError):
            path.chmod(0)  # the superuser can still read it
