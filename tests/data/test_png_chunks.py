from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.image_bytes import chunk, encode
from PIL import Image

from renoise.data.files import UnreadableImageError
from renoise.data.images import decode_image, read_size
from renoise.data.png_chunks import MAX_PARTS

RAMP = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
PNG = encode(Image.fromarray(RAMP))
SIDEWAYS = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
"""EXIF data of a photo that was taken sideways."""
SIDEWAYS_TEXT = (b"Exif\0\0" + SIDEWAYS).hex().encode()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
HEADER, END = 33, -12
"""Where a chunk can be put in: after IHDR, and before IEND."""


def put(place: int, *chunks: bytes) -> bytes:
    """Returns the picture with further chunks at a place."""
    return PNG[:place] + b"".join(chunks) + PNG[place:]


def pixels(data: bytes) -> np.ndarray:
    return (decode_image(data, (8, 16))[0] * 255).round().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("place", [HEADER, END])
@pytest.mark.parametrize(
    "content",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"tEXt", b"parameters\0" + bytes(2**21)),
        chunk(b"tEXt", b"a") * 3000,
        chunk(b"caBX", bytes(2**21)),
        chunk(b"acTL", b"bad"),
    ],
    ids=["zTXt", "iTXt", "tEXt", "many", "unknown", "animation"],
)
def test_texts_and_other_additions_do_not_keep_a_picture_from_being_read(place: int, content: bytes) -> None:
    np.testing.assert_array_equal(pixels(put(place, content)), RAMP)


@pytest.mark.parametrize("place", [HEADER, END])
@pytest.mark.parametrize(
    "content",
    [
        chunk(b"eXIf", SIDEWAYS),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n32\n" + SIDEWAYS_TEXT)),
    ],
    ids=["eXIf", "XMP", "ImageMagick"],
)
def test_a_photo_is_turned_upright_wherever_its_orientation_is(place: int, content: bytes, tmp_path: Path) -> None:
    data = put(place, content)
    upright = decode_image(data, (16, 8))[0] * 255
    np.testing.assert_array_equal(upright.round().permute(1, 2, 0).numpy(), np.rot90(RAMP, -1))
    (tmp_path / "a.png").write_bytes(data)
    assert read_size(tmp_path / "a.png") == (16, 8)


def test_the_size_is_read_without_the_pixels(tmp_path: Path) -> None:
    start = PNG.index(b"IDAT")
    data = PNG[: start + 4] + bytes(20) + PNG[start + 24 : END] + chunk(b"eXIf", SIDEWAYS) + PNG[END:]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadableImageError):
        decode_image(data, 8)
    assert read_size(tmp_path / "a.png") == (16, 8)


def test_pixels_in_many_chunks_are_read() -> None:
    start = PNG.index(b"IDAT")
    (length,) = struct.unpack(">I", PNG[start - 4 : start])
    content = PNG[start + 4 : start + 4 + length]
    parts = [chunk(b"IDAT", content[place : place + 7]) for place in range(0, length, 7)]
    np.testing.assert_array_equal(pixels(PNG[: start - 4] + b"".join(parts) + PNG[END:]), RAMP)


@pytest.mark.parametrize("name", [b"ABCD", b"PLTE", b"eXIf"])
def test_a_file_of_endless_parts_is_an_error(name: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"more than [0-9]+ chunks"):
        decode_image(put(HEADER, *([chunk(name, b"abc"), chunk(b"tEXt", b"a")] * (MAX_PARTS + 2))), 8)


@pytest.mark.parametrize("length", [9, 20, 40, 60])
def test_a_file_that_is_cut_off_is_an_error(length: int) -> None:
    with pytest.raises(UnreadableImageError):
        decode_image(PNG[:length], 8)


def test_pillow_alone_refuses_the_texts() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(put(HEADER, text)))
