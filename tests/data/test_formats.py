from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers.data_sets import PICTURE, image_folder, write_gray_images, write_tar
from helpers.image_bytes import encode
from PIL import Image, ImageFile

from renoise.data import HuggingFaceDataModule, WebDatasetDataModule
from renoise.data.files import UnreadableImageError
from renoise.data.formats import formats, not_opened, suffixes
from renoise.data.images import decode_image
from renoise.errors import InputError, InputWarning

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400)


def test_suffixes_are_those_of_images_that_are_opened() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".bmp", ".ppm", ".mpo", ".avif", ".jp2"} <= suffixes()
    assert (
        not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".h5", ".jsonl", ".txt", "", ".fits", ".ico", ".psd"} & suffixes()
    )


@pytest.mark.parametrize("format", ["ICO", "ICNS", "TGA", "PCX", "DDS", "SGI", "IM", "EPS"])
def test_formats_that_no_photograph_has_are_not_opened(format: str) -> None:
    with pytest.raises(UnreadableImageError, match="is not an image in a known format"):
        decode_image(encode(Image.new("RGB", (32, 32), "red"), format), 8)


def test_pictures_that_cannot_be_opened_are_counted_with_what_to_do() -> None:
    found = [".heic", ".jpg", ".dng", ".heic", ".txt", ".psd", ".mov"]
    assert not_opened(found) == (
        '2 .heic files (install pillow-heif: pip install "renoise[heif]"), '
        "1 .dng and 1 .psd files (convert them to JPEG or PNG)"
    )
    assert not_opened([".jpg", ".txt"]) == ""


def test_a_folder_of_an_iphone_gives_one_warning_with_a_count(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "IMG_1.JPG")
    for name in ("IMG_2.HEIC", "IMG_3.HEIC", "sub/IMG_4.DNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(HEIC)
    with pytest.warns(InputWarning) as caught:
        data = image_folder(tmp_path)
    assert [record.file_name for record in data.records] == ["IMG_1.JPG"]
    assert [str(each.message) for each in caught] == [
        f"data.root: pictures in {tmp_path} are left out: 2 .heic files (install pillow-heif: pip install "
        '"renoise[heif]"), 1 .dng file (convert them to JPEG or PNG)'
    ]


def test_a_folder_of_pictures_that_cannot_be_opened_is_an_error_in_one_short_line(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(
        InputError, match=r"contains no images that can be read, only 1 \.heic file \(install"
    ) as caught:
        image_folder(tmp_path)
    assert len(str(caught.value)) - len(str(tmp_path)) < 200


def test_the_bytes_of_an_iphones_photo_say_which_package_reads_them() -> None:
    with pytest.raises(UnreadableImageError, match=r"is a HEIC image, .* pillow-heif: pip install"):
        decode_image(HEIC, 8)
    with pytest.raises(UnreadableImageError, match=r"is a HEIC image"):
        decode_image(HEIC.replace(b"ftypheic", b"ftypmif1"), 8)


def test_a_sample_of_a_shard_whose_picture_cannot_be_opened_is_a_row(tmp_path: Path) -> None:
    png = encode(PICTURE)
    files = {"1.heic": HEIC, "1.txt": b"a cat", "2.dng": b"II*", "2.png": png, "2.txt": b"a dog"}
    write_tar(tmp_path / "0.tar", files)
    data = WebDatasetDataModule(tmp_path, resolution=8)
    data.setup("predict")
    assert [(record.file_name, record.prompt) for record in data.records] == [
        ("0/1.heic", "a cat"),
        ("0/2.png", "a dog"),
    ]
    failures = [failure for batch in data.predict_dataloader() for failure in batch.failures]
    assert [(record.file_name, "pillow-heif" in reason) for record, reason in failures] == [("0/1.heic", True)]


def test_pictures_that_a_table_leaves_out_are_counted(tmp_path: Path) -> None:
    write_gray_images(tmp_path, "a.png")
    (tmp_path / "b.heic").write_bytes(HEIC)
    data = HuggingFaceDataModule(tmp_path, resolution=8)
    with pytest.warns(InputWarning, match=r"are left out: 1 \.heic file \(install"):
        data.setup("predict")
    assert len(data.records) == 1


class Heif(ImageFile.ImageFile):
    """Stands in for the reader of pillow-heif, which decodes every file as one color."""

    format = "HEIF"

    def _open(self) -> None:
        self._size, self._mode = (32, 16), "RGB"
        self.tile = []

    def load(self) -> None:
        self._im = Image.new("RGB", self.size, "lime").im


@pytest.fixture
def pillow_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs a stand-in for pillow-heif during a test."""

    def register_heif_opener() -> None:
        Image.register_open("HEIF", Heif, lambda start: start[4:12] == b"ftypheic")
        Image.register_extensions("HEIF", [".heic", ".heif"])

    module = ModuleType("pillow_heif")
    module.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    for function in (formats, suffixes):
        function.cache_clear()
    yield
    for name in (".heic", ".heif"):
        Image.EXTENSION.pop(name, None)
    Image.OPEN.pop("HEIF", None)
    Image.ID.remove("HEIF")
    for function in (formats, suffixes):
        function.cache_clear()


@pytest.mark.usefixtures("pillow_heif")
def test_photos_of_an_iphone_are_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(HEIC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = image_folder(tmp_path)
    (batch,) = data.predict_dataloader()
    assert batch.records[0].file_name == "a.HEIC"
    assert batch.images.mean(dim=(0, 2, 3)).tolist() == [0, 1, 0]


def dng(tag: int, value: int) -> bytes:
    """Returns a TIFF file of one small picture with a further tag."""
    exif = Image.Exif()
    exif[tag] = value
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF", tiffinfo=exif)
    return file.getvalue()


@pytest.mark.parametrize(("tag", "value"), [(254, 1), (50706, 1)], ids=["preview", "DNGVersion"])
def test_the_small_preview_of_a_raw_file_is_not_taken_for_the_photo(tag: int, value: int) -> None:
    with pytest.raises(UnreadableImageError, match="is a camera's raw file"):
        decode_image(dng(tag, value), 8)
