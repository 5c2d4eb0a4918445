from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from helpers.image_bytes import GRAY, encode, png_header
from PIL import Image

from renoise.data.files import UnreadableImageError
from renoise.data.image_files import open_image
from renoise.data.image_memory import check_memory
from renoise.data.images import read_image
from renoise.data.tar_files import TarMember

PHONE = (16320, 12240)
"""Width and height of a phone's photo of 200 megapixels."""


def needed(data: bytes, factor: int = 4) -> int:
    """Returns the memory in MiB that reading an image takes."""
    image = open_image(io.BytesIO(data), 2**40)
    with pytest.raises(UnreadableImageError, match=r"is too large: .* more than max_image_memory") as caught:
        check_memory(image, image.size, factor, 0)
    return int(str(caught.value).split(" take ")[1].split()[0])


def test_png_files_of_a_phones_largest_photos_fit() -> None:
    assert 763 < needed(png_header(*PHONE)) < 1024  # 4 bytes per pixel
    assert needed(png_header(*PHONE, bits=16)) == needed(png_header(*PHONE))
    assert needed(png_header(*PHONE, bits=16, color=GRAY)) < needed(png_header(*PHONE))


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (1, 2**31 - 1), (20_000, 20_000)])
def test_sizes_that_no_photo_has_are_refused_before_they_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size))
    with pytest.raises(UnreadableImageError, match=f"is too large: {size[0]}×{size[1]} pixels take [0-9]+ MiB"):
        read_image(tmp_path / "a.png", 8)


def test_a_photo_of_200_megapixels_is_decoded_at_a_fraction_of_its_size(tmp_path: Path) -> None:
    Image.new("L", PHONE, 77).save(tmp_path / "phone.jpg", quality=50)
    pixels, _, ids = read_image(tmp_path / "phone.jpg", 8, max_memory=110)
    assert abs(pixels * 255 - 77).max() < 1.5
    assert ids[:2] == (12240, 16320)


@pytest.mark.parametrize(("subsampling", "per_pixel"), [("4:4:4", 6), ("4:2:2", 4), ("4:2:0", 3)])
def test_a_progressive_jpeg_takes_its_coefficients_too(subsampling: str, per_pixel: int) -> None:
    image = Image.new("RGB", (1600, 1600))
    plain = needed(encode(image, "JPEG", subsampling=subsampling))
    progressive = needed(encode(image, "JPEG", subsampling=subsampling, progressive=True))
    assert progressive - plain == pytest.approx(per_pixel * 1600**2 / 2**20, abs=1)


def test_a_tiff_takes_a_strip_more_and_a_second_image_where_it_is_turned() -> None:
    image, exif = Image.new("RGB", (2048, 2048)), Image.Exif()
    exif[0x0112] = 6
    strips = needed(encode(image, "TIFF", compression="tiff_lzw"))
    one_strip = needed(encode(image, "TIFF", compression="tiff_lzw", strip_size=2**30))
    turned = needed(encode(image, "TIFF", compression="tiff_lzw", exif=exif))
    assert one_strip - strips == pytest.approx(3 * 4, abs=1)
    assert turned - strips == pytest.approx(4 * 4, abs=1)


def sparse(path: Path, start: bytes, size: int = 2**32) -> Path:
    """Writes a file that begins with these bytes and claims gigabytes of zeros after them."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def test_a_file_of_4_gb_is_refused_by_its_first_bytes_or_by_its_length(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="is not an image in a known format"):
        read_image(sparse(tmp_path / "a.png", b""), 8)
    with pytest.raises(UnreadableImageError, match=r"is too large: a file of 4\.0 GiB"):
        read_image(sparse(tmp_path / "b.png", png_header(8, 8)), 8)


def test_a_member_of_4_gb_is_refused_as_a_file_is(tmp_path: Path) -> None:
    archive = sparse(tmp_path / "a.tar", bytes(512) + png_header(8, 8), 2**32 + 512)
    with pytest.raises(UnreadableImageError, match=r"is too large: a file of 4\.0 GiB"):
        read_image(TarMember(archive, 512, 2**32), 8)


def tiff(tag: int, kind: int, count: int, value: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, tag, kind, count, value) + bytes(4)


@pytest.mark.parametrize(
    "start",
    [
        tiff(273, 4, 200_000_000, 8),  # places of strips
        tiff(270, 2, 900_000_000, 8),  # a description
        b"BM" + bytes(12) + struct.pack("<I", 900_000_000),  # a header
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 900_000_000) + b"IHDR",
    ],
    ids=["TIFF strips", "TIFF text", "BMP", "PNG"],
)
def test_a_header_that_asks_for_gigabytes_is_not_read(start: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError):
        read_image(sparse(tmp_path / "a", start, 2**30), 8)
