"""Ways in which image files go wrong."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageCms

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
    """Replaces a good image by a damaged or rare one, in one of twelve ways."""
    content = bytearray(path.read_bytes())
    way = rng.randrange(12)
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
    elif way == 10:
        _make_bomb(path, bytes(content), rng)
    elif way == 11:
        path.write_bytes(_with_profile(bytes(content), rng))
    else:
        path.write_bytes(content)


def _in_rare_form(content: bytes, rng: random.Random) -> bytes:
    """Returns the same image in a rare form, whatever the file's name says."""
    rare = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        mode, kind, size = rng.choice(RARE_FORMS)
        image.convert("L" if mode == "I;16" else mode).resize(size or image.size).convert(mode).save(rare, kind)
    return rare.getvalue()


def _with_profile(content: bytes, rng: random.Random) -> bytes:
    """Returns the same image with a color profile that is damaged or belongs to other images."""
    described = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(rng.choice(("sRGB", "LAB", "XYZ")))).tobytes()
    with Image.open(io.BytesIO(content)) as image:
        image.save(described, image.format, icc_profile=profile[: rng.choice((None, 10, 128, 300))])
    return described.getvalue()


def _make_bomb(path: Path, content: bytes, rng: random.Random) -> None:
    """Makes a file that takes gigabytes where it is read carelessly: by its length, or by the size it claims."""
    form = rng.choice(("sparse", "PNG", "FITS", "TIFF"))
    if form == "sparse":
        path.write_bytes(content)
        os.truncate(path, 2**32)
    elif form == "PNG":
        header = struct.pack(">IIBBBBB", *rng.choice(((40_000, 40_000), (2**31 - 1, 1))), 16, 0, 0, 0, 0)
        crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + crc + content[33:])
    elif form == "FITS":
        cards = ("SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 30000", "NAXIS2  = 30000", "END")
        path.write_bytes("".join(card.ljust(80) for card in cards).ljust(2880).encode())
    else:
        entry = struct.pack("<HHHII", 1, 273, 4, 200_000_000, 8)  # so many strips
        path.write_bytes(b"II*\0\x08\0\0\0" + entry + bytes(4))
        os.truncate(path, 2**30)


def _make_special_file(path: Path, rng: random.Random) -> None:
    """Makes a named pipe, or a file without permissions."""
    if rng.random() < 0.5:
        os.mkfifo(path)
    else:
        path.touch()
        with contextlib.suppress(PermissionError):
            path.chmod(0)  # the superuser can still read it
