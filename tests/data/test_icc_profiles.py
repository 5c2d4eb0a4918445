from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.icc import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Space,
    cmyk_profile,
    gray_profile,
    rgb_profile,
    srgb_levels,
)
from helpers.image_bytes import chunk, encode
from PIL import Image, ImageCms

from renoise.data.images import decode_image, image_to_pixels, read_image
from renoise.errors import InputWarning

COLORS = np.array(
    [(r, g, b) for r in (0, 60, 128, 255) for g in (0, 90, 170, 255) for b in (0, 30, 200, 255)], dtype=np.uint8
).reshape(8, 8, 3)
ORIENTATION = 0x0112


def levels(data: bytes, size: int = 8) -> np.ndarray:
    """Returns decoded pixels in 0…255, [H, W, 3]."""
    return decode_image(data, size)[0].permute(1, 2, 0).numpy() * 255


def expected(space: Space) -> np.ndarray:
    return srgb_levels(space, COLORS.reshape(-1, 3)).reshape(8, 8, 3)


@pytest.mark.parametrize("space", [ADOBE_RGB, DISPLAY_P3, PROPHOTO], ids=["Adobe RGB", "Display P3", "ProPhoto"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_colors_of_a_profile_become_those_of_srgb(space: Space, format: str) -> None:
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    data = encode(Image.fromarray(COLORS), format, icc_profile=rgb_profile(space), **lossless.get(format, {}))
    assert abs(expected(space) - COLORS).max() > 30  # what is at stake
    np.testing.assert_allclose(levels(data), expected(space), atol=12 if format == "AVIF" else 1.5)


def test_a_jpeg_photo_of_an_iphone_is_converted_and_turned() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = Image.new("RGB", (32, 16), (200, 90, 30))
    data = encode(photo, "JPEG", quality=100, subsampling=0, icc_profile=rgb_profile(DISPLAY_P3), exif=exif)
    color = srgb_levels(DISPLAY_P3, np.array([[200, 90, 30]]))[0]
    np.testing.assert_allclose(levels(data, 16), np.broadcast_to(color, (16, 16, 3)), atol=2.5)
    assert decode_image(data, 16)[1][:2] == (32, 16)


@pytest.mark.parametrize(
    "profile",
    [rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()],
    ids=["by hand", "of LittleCMS"],
)
def test_an_image_that_says_srgb_keeps_its_pixels(profile: bytes) -> None:
    data = encode(Image.fromarray(COLORS), icc_profile=profile)
    np.testing.assert_array_equal(levels(data).round(), COLORS)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grays_follow_the_curve_of_their_profile(mode: str) -> None:
    gray = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(gray.astype("<u2") * 257) if mode == "I;16" else Image.fromarray(gray).convert(mode)
    linear = (gray / 255) ** 1.8
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    found = levels(encode(image, icc_profile=gray_profile(1.8)))
    assert abs(srgb - gray).max() > 15
    np.testing.assert_allclose(found, np.repeat(srgb[..., None], 3, axis=2), atol=1.5)


def test_a_gray_image_may_have_a_profile_of_colors() -> None:
    found = levels(encode(Image.new("L", (8, 8), 100), icc_profile=rgb_profile(ADOBE_RGB)))
    np.testing.assert_allclose(found[0, 0], srgb_levels(ADOBE_RGB, np.full((1, 3), 100))[0], atol=1.5)


def test_a_palette_is_converted() -> None:
    palette = Image.fromarray(COLORS).quantize(64, dither=Image.Dither.NONE)
    original = np.asarray(palette.convert("RGB"))
    found = levels(encode(palette, icc_profile=rgb_profile(DISPLAY_P3)))
    np.testing.assert_allclose(found, srgb_levels(DISPLAY_P3, original.reshape(-1, 3)).reshape(8, 8, 3), atol=1.5)


def test_transparent_parts_become_the_white_of_srgb() -> None:
    image = Image.new("RGBA", (8, 8), (10, 200, 30, 51))
    color = srgb_levels(ADOBE_RGB, np.array([[10, 200, 30]]))[0]
    found = levels(encode(image, icc_profile=rgb_profile(ADOBE_RGB)))
    np.testing.assert_allclose(found[0, 0], 255 - 0.2 * (255 - color), atol=1.5)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_are_converted_by_their_profile(format: str) -> None:
    def printed(c: int, m: int, y: int, k: int) -> tuple[int, int, int]:
        return (0, 0, 0) if k else (255 - 225 * c, 255 - 165 * c - 60 * m, 255 - 95 * c - 30 * y)

    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image.paste((0, 0, 0, 0), (8, 0, 16, 16))
    found = levels(encode(image, format, icc_profile=cmyk_profile(printed)), 16)
    np.testing.assert_allclose(found[8, 4], (30, 90, 160), atol=6)  # without the profile: (0, 255, 255)
    np.testing.assert_allclose(found[8, 12], (255, 255, 255), atol=3)


def test_lab_colors_need_no_profile() -> None:
    image = Image.new("LAB", (8, 8), (255, 128, 128))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert levels(encode(image, "TIFF", icc_profile=profile)).min() > 253


def test_a_picture_in_memory_is_converted_and_stays_as_it_is() -> None:
    picture = Image.fromarray(COLORS)
    picture.info["icc_profile"] = rgb_profile(ADOBE_RGB)
    pixels, _ = image_to_pixels(picture, 8)
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy() * 255, expected(ADOBE_RGB), atol=1.5)
    np.testing.assert_array_equal(np.asarray(picture), COLORS)


def with_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """Returns a PNG file with one chunk more, before its pixels."""
    return data[:33] + chunk(name, content) + data[33:]


PLAIN = encode(Image.fromarray(COLORS))
GOOD = rgb_profile(ADOBE_RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(Image.fromarray(COLORS), icc_profile=GOOD[:200]), "its ICC profile is ignored, .* damaged"),
        (encode(Image.fromarray(COLORS), icc_profile=b"x" * 300), "its ICC profile is ignored, .* damaged"),
        (encode(Image.fromarray(COLORS), icc_profile=gray_profile(1)), "it describes GRAY colors, and the image has"),
        (with_chunk(PLAIN, b"iCCP", b"icc\0\0not compressed"), "its ICC profile is ignored, .* damaged"),
        (with_chunk(PLAIN, b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**25))), "its ICC profile is ignored"),
        (with_chunk(PLAIN, b"gAMA", struct.pack(">I", 100_000)), "although its chunk gAMA says 1$"),
        (with_chunk(PLAIN, b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)), "cHRM"),
        (with_chunk(PLAIN, b"cICP", b"\x0c\x0d\0\1"), r"cICP says \[12, 13, 0, 1\]"),
    ],
)
def test_a_description_of_colors_that_is_not_used_is_a_warning_with_the_name(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.warns(InputWarning, match=message) as caught:
        pixels = read_image(tmp_path / "a.png", 8).pixels
    np.testing.assert_array_equal((pixels * 255).round().permute(1, 2, 0).numpy(), COLORS)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"{tmp_path / 'a.png'}: ")
    assert len(str(caught[0].message)) < 300


def test_a_photo_that_only_its_camera_data_calls_adobe_rgb_is_a_warning() -> None:
    entry = struct.pack("<HHI4s", 1, 2, 4, b"R03\0")
    interop = struct.pack("<H", 1) + entry + bytes(4)
    exif_ifd = struct.pack("<H", 2) + struct.pack("<HHIHH", 0xA001, 3, 1, 0xFFFF, 0)
    start = 8 + 2 + 12 + 4
    exif_ifd += struct.pack("<HHII", 0xA005, 4, 1, start + 2 + 24 + 4) + bytes(4)
    body = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, start) + bytes(4) + exif_ifd + interop
    data = encode(Image.fromarray(COLORS), "JPEG", exif=b"Exif\0\0" + body)
    with pytest.warns(InputWarning, match="although its EXIF data says Adobe RGB"):
        levels(data)


@pytest.mark.parametrize(
    "data",
    [
        with_chunk(PLAIN, b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        with_chunk(PLAIN, b"gAMA", struct.pack(">I", 45455)),
        with_chunk(with_chunk(PLAIN, b"gAMA", struct.pack(">I", 100_000)), b"sRGB", b"\0"),
        with_chunk(PLAIN, b"cICP", b"\1\x0d\0\1"),
    ],
)
def test_an_image_that_describes_srgb_gives_no_warning(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        levels(data)


def test_the_sizes_of_a_profile_in_a_png_are_not_limited_as_in_pillow() -> None:
    tail = bytes(3 * 2**20)  # profiles of printers are that large
    profile = struct.pack(">I", len(GOOD) + len(tail)) + GOOD[4:] + tail
    data = with_chunk(PLAIN, b"iCCP", b"icc\0\0" + zlib.compress(profile))
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(data))
    np.testing.assert_allclose(levels(data), expected(ADOBE_RGB), atol=1.5)
