from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_bytes import chunk, encode, png_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from renoise.data.files import UnreadableImageError
from renoise.data.images import decode_image, image_to_pixels, read_image, read_size

RAMP = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
ORIENTATION = 0x0112


def uniform(mode: str, color: object, size: int = 8) -> Image.Image:
    """Returns a square of one color."""
    return Image.new(mode, (size, size), color)  # type: ignore[arg-type]


def levels(data: bytes, resolution: int = 8) -> np.ndarray:
    """Returns the decoded pixels as integers [H, W, 3] in 0…255."""
    pixels, _ = decode_image(data, resolution)
    assert pixels.dtype == torch.float32
    assert pixels.shape == (3, resolution, resolution)
    assert pixels.is_contiguous()
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def test_an_image_of_the_target_size_keeps_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RAMP).save(path)
    pixels, sha256, ids = read_image(path, 8)
    torch.testing.assert_close(pixels, torch.from_numpy(RAMP).permute(2, 0, 1) / 255, rtol=0, atol=0)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ids == (8, 8, 0, 0, 8, 8)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_square_is_cut_from_the_middle(axis: int) -> None:
    long = np.concatenate([np.zeros((3, 8, 3), np.uint8), RAMP, np.full((4, 8, 3), 255, np.uint8)])
    image = long if axis == 0 else long.swapaxes(0, 1)
    expected = RAMP if axis == 0 else RAMP.swapaxes(0, 1)
    np.testing.assert_array_equal(levels(encode(Image.fromarray(np.ascontiguousarray(image)))), expected)


def test_an_image_one_pixel_wide_fills_the_square() -> None:
    np.testing.assert_array_equal(levels(encode(Image.new("RGB", (1, 99), (1, 2, 3)))), np.full((8, 8, 3), (1, 2, 3)))


def test_images_are_resized_by_the_lanczos_filter() -> None:
    step = np.repeat(np.where(np.arange(32) < 16, 60, 190).astype(np.uint8)[None], 32, axis=0)
    # Lanczos-3, stretched by the scale of 2: sinc(x/2) sinc(x/6) around the middle of each of the 16 target pixels.
    offset = (np.arange(32) + 0.5)[None] - (2 * np.arange(16) + 1)[:, None]
    weight = np.where(abs(offset) < 6, np.sinc(offset / 2) * np.sinc(offset / 6), 0)
    expected = (weight / weight.sum(1, keepdims=True)) @ step[0]
    assert expected.min() < 59  # the step rings, because the filter has negative weights
    found = levels(encode(Image.fromarray(step)), 16)
    np.testing.assert_allclose(found[7, :, 0], expected, atol=0.51)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, RAMP),
        (2, RAMP[:, ::-1]),
        (3, RAMP[::-1, ::-1]),
        (4, RAMP[::-1]),
        (5, RAMP.swapaxes(0, 1)),
        (6, np.rot90(RAMP, -1)),
        (7, RAMP[::-1, ::-1].swapaxes(0, 1)),
        (8, np.rot90(RAMP)),
    ],
)
def test_a_photo_taken_sideways_is_turned_upright(orientation: int, upright: np.ndarray, format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(levels(encode(Image.fromarray(RAMP), format, exif=exif)), upright)


def exif_with(tag: int, kind: int, value: bytes) -> bytes:
    """Returns an EXIF block with the orientation of a quarter turn and one further entry."""
    entries = [(ORIENTATION, 3, struct.pack("<HH", 6, 0)), (tag, kind, value)]
    body = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in sorted(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + body + bytes(4)


def test_a_photo_is_turned_even_if_its_metadata_cannot_be_rewritten() -> None:
    exif = exif_with(0xA005, 2, b"odd\0")
    np.testing.assert_array_equal(levels(encode(Image.fromarray(RAMP), exif=exif)), np.rot90(RAMP, -1))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM", exif_with(0x8769, 9, b"ab\xff\xff")])
def test_an_image_with_damaged_metadata_is_read(exif: bytes) -> None:
    assert levels(encode(uniform("RGB", "red"), "JPEG", exif=exif))[4, 4, 0] > 250


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (uniform("1", 1), {}, (255, 255, 255)),
        (uniform("1", 0), {}, (0, 0, 0)),
        (uniform("L", 77), {}, (77, 77, 77)),
        (uniform("RGB", (1, 2, 3)).quantize(4), {}, (1, 2, 3)),
        # Over white: 255 − alpha · (255 − color) / 255
        (uniform("LA", (55, 51)), {}, (215, 215, 215)),
        (uniform("RGBA", (0, 100, 255, 102)), {}, (153, 193, 255)),
        (uniform("RGBA", (9, 9, 9, 0)), {}, (255, 255, 255)),
        (uniform("L", 77), {"transparency": 77}, (255, 255, 255)),
        (uniform("L", 77), {"transparency": 78}, (77, 77, 77)),
        (uniform("RGB", (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
        (uniform("RGB", (1, 2, 3)).quantize(4), {"transparency": 0}, (255, 255, 255)),
        (uniform("RGB", (5, 0, 255)).quantize(4), {"transparency": bytes([51])}, (205, 204, 255)),
    ],
)
def test_every_mode_of_png_becomes_rgb_over_white(
    image: Image.Image, options: dict[str, object], expected: tuple[int, int, int]
) -> None:
    found = levels(encode(image, **options))
    np.testing.assert_array_equal(found, np.full((8, 8, 3), expected))


@pytest.mark.parametrize(
    ("image", "format", "expected", "tolerance"),
    [
        # (1 − ink) (1 − black): 255 · 0.8 · 0.6 and so on
        (uniform("CMYK", (51, 0, 255, 102)), "TIFF", (122, 153, 0), 1),
        (uniform("CMYK", (51, 0, 255, 102)), "JPEG", (122, 153, 0), 4),
        # Luma and chroma of ITU-R BT.601: R = Y + 1.402 (Cr − 128)
        (uniform("YCbCr", (100, 128, 178)), "JPEG", (170, 64, 100), 4),
        # Lightness without chroma, which is 128
        (uniform("LAB", (255, 128, 128)), "TIFF", (255, 255, 255), 1),
        (uniform("LAB", (0, 128, 128)), "TIFF", (0, 0, 0), 1),
    ],
)
def test_printing_and_video_colors_become_rgb(
    image: Image.Image, format: str, expected: tuple[int, int, int], tolerance: int
) -> None:
    np.testing.assert_allclose(levels(encode(image, format)).astype(int)[4, 4], expected, atol=tolerance)


GRAYS = np.linspace(0, 65535, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("dtype", "mode", "format"),
    [
        ("<u2", "I;16", "PNG"),
        ("<u2", "I;16", "TIFF"),
        (">u2", "I;16B", "TIFF"),
        ("<i4", "I", "TIFF"),
        ("<i4", "I", "PPM"),
    ],
)
def test_a_16_bit_gray_image_keeps_its_tones(dtype: str, mode: str, format: str) -> None:
    values = GRAYS.astype(dtype)
    data = encode(Image.frombytes(mode, (8, 8), values.tobytes()), format)
    expected = np.repeat(np.round(values / 65535 * 255)[..., None], 3, axis=2)
    np.testing.assert_array_equal(levels(data), expected)


def test_the_transparent_tone_of_a_16_bit_gray_image_becomes_white() -> None:
    plain = encode(Image.fromarray(np.full((8, 8), 1000, "<u2")))
    assert levels(plain).max() == 4
    position = plain.index(b"IDAT") - 4
    assert levels(plain[:position] + chunk(b"tRNS", struct.pack(">H", 1000)) + plain[position:]).min() == 255


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_read(format: str) -> None:
    frames = [uniform("RGB", color) for color in ("red", "lime", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(levels(data), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, (16, 40, 0, 6, 8, 8)),
        (3, (16, 40, 0, 6, 8, 8)),
        (6, (40, 16, 6, 0, 8, 8)),
        (8, (40, 16, 6, 0, 8, 8)),
    ],
)
def test_time_ids_are_those_of_the_upright_photo(orientation: int, expected: tuple[int, ...], format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert decode_image(encode(Image.new("RGB", (40, 16)), format, exif=exif), 8)[1] == expected


@pytest.mark.parametrize("format", ["JPEG", "JPEG2000"])
def test_time_ids_have_the_full_size_of_formats_that_decode_at_a_fraction_of_it(format: str) -> None:
    assert decode_image(encode(Image.new("RGB", (643, 481)), format), 8)[1] == (481, 643, 0, 1, 8, 8)


def failure(data: bytes) -> str:
    """Returns the message about bytes that are not a usable image."""
    with pytest.raises(UnreadableImageError) as caught:
        decode_image(data, 8)
    return str(caught.value)


def test_floating_point_images_are_an_error() -> None:
    assert "floating-point" in failure(encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"))


@pytest.mark.parametrize("value", [-1, 65536])
def test_gray_beyond_16_bits_is_an_error_and_is_not_clipped(value: int) -> None:
    message = failure(encode(Image.fromarray(np.full((8, 8), value, np.int32)), "TIFF"))
    assert f"{value} to {value}" in message


def test_an_empty_file_is_an_error_that_says_so() -> None:
    assert failure(b"") == "is not an image in a known format (0 bytes)"


def test_text_is_an_error() -> None:
    assert failure(b"hello, world") == "is not an image in a known format (starts with b'hello, w')"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_truncated_file_is_an_error(format: str) -> None:
    data = encode(Image.effect_noise((64, 64), 80).convert("RGB"), format)
    assert f"{format} image cannot be decoded" in failure(data[: len(data) // 2])


def test_a_decompression_bomb_is_an_error_before_it_is_decoded() -> None:
    assert "too large" in failure(png_header(20_000, 20_000))


def test_a_large_image_within_the_limit_is_read_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(levels(encode(Image.fromarray(RAMP))), RAMP)


@pytest.mark.parametrize("data", [png_header(0, 0), png_header(0, 5), b"P5 0 0 255\n", png_header(8, 8)])
def test_an_image_without_pixels_is_an_error(data: bytes) -> None:
    failure(data)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("odd"),
        struct.error("odd"),
        ValueError("odd"),
        OverflowError("odd"),
        MemoryError(),
        EOFError("odd"),
        zlib.error("odd"),
        AssertionError(),
        RecursionError("odd"),
        OSError(5, "odd"),
    ],
)
def test_every_exception_of_pillow_becomes_an_unreadable_image_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    data = encode(uniform("RGB", "red"))
    monkeypatch.setattr(Image.Image, "crop", broken)
    message = str(error.strerror if isinstance(error, OSError) else error) or type(error).__name__
    assert failure(data) == f"PNG image cannot be decoded: {message}"


def test_postscript_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(uniform("RGB", "red"), "EPS")

    def ghostscript(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    assert "known format" in failure(data)


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert torch.equal(read_image(str(tmp_path / "a.png"), 8).pixels, read_image(tmp_path / "a.png", 8).pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_read_size_returns_the_size_of_the_upright_image(format: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (tmp_path / "a").write_bytes(encode(Image.new("RGB", (40, 16)), format, exif=exif))
    assert read_size(tmp_path / "a") == ((16, 40) if orientation < 5 else (40, 16))


def test_an_image_without_a_readable_size_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    assert read_size(tmp_path / "a.png") is None
    assert read_size(tmp_path / "gone.png") is None


def test_an_image_in_memory_gives_the_pixels_of_its_file_and_stays_as_it_is() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encode(Image.fromarray(RAMP), exif=exif)
    image = Image.open(io.BytesIO(data))
    pixels, ids = image_to_pixels(image, (8, 16), "pad")
    expected, expected_ids = decode_image(data, (8, 16), "pad")
    assert torch.equal(pixels, expected)
    assert ids == expected_ids
    np.testing.assert_array_equal(np.asarray(image), RAMP)


def test_an_image_in_memory_that_cannot_be_decoded_is_an_error() -> None:
    image = Image.open(io.BytesIO(encode(Image.effect_noise((64, 64), 80))[:500]))
    with pytest.raises(UnreadableImageError, match="PNG image cannot be decoded: "):
        image_to_pixels(image, 8)


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8))
GOOD = [
    encode(PICTURE, format, exif=exif_with(0x010F, 2, b"abc\0"))
    if format in ("PNG", "JPEG", "WEBP")
    else encode(PICTURE, format)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF")
] + [encode(PICTURE.convert(mode), "TIFF", compression="tiff_lzw") for mode in ("P", "CMYK", "1")]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_raise_only_unreadable_image_errors(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a damaged size must not take minutes
    content = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    with suppress(UnreadableImageError):
        pixels, ids = decode_image(damaged, 8)
        assert pixels.shape == (3, 8, 8)
        assert 0 <= pixels.min() <= pixels.max() <= 1
        assert min(ids) >= 0
        assert ids[4:] == (8, 8)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_is_reduced_before_it_is_resized_and_looks_the_same(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo = Image.open("data/photographs/coffee.jpg").convert("RGB").resize((3300, 2200), Image.Resampling.BICUBIC)
    noisy = Image.blend(photo, Image.effect_noise(photo.size, 60).convert("RGB"), 0.1)
    data = encode(noisy, format, exif=exif, **({"quality": 95} if format == "JPEG" else {"compress_level": 0}))
    plain = (
        Image.open(io.BytesIO(data))
        .convert("RGB")
        .crop((550, 0, 2750, 2200))
        .resize((64, 64), Image.Resampling.LANCZOS)
    )
    if orientation == 6:
        plain = plain.transpose(Image.Transpose.ROTATE_270)
    error = np.square(levels(data, 64).astype(float) - np.asarray(plain, float)).mean()
    assert 10 * np.log10(255**2 / error) > 40
    assert decode_image(data, 64)[1][:2] == ((2200, 3300) if orientation == 1 else (3300, 2200))


def test_the_first_picture_of_a_stereo_photo_is_read() -> None:
    left, right = uniform("RGB", (200, 10, 10), 16), uniform("RGB", (10, 10, 200), 16)
    data = encode(left, "MPO", save_all=True, append_images=[right])
    np.testing.assert_allclose(levels(data, 16)[8, 8].astype(int), (200, 10, 10), atol=4)


def test_the_first_page_of_a_scan_is_read() -> None:
    data = encode(uniform("RGB", "red"), "TIFF", save_all=True, append_images=[uniform("RGB", "blue", 64)])
    np.testing.assert_array_equal(levels(data)[4, 4], (255, 0, 0))
