"""Which image formats are opened, and the file name suffixes that belong to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from PIL import Image

OPENED = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM")
"""Pillow's names of the formats of photographs. Pillow reads some 30 more, of which several decode without regard to
memory (FITS, ICNS), have no signature (TGA), or run other programs (EPS)."""
HEIF_SUFFIXES = {".heic", ".heif", ".heics", ".heifs", ".hif"}
OTHER_SUFFIXES = {
    *{".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw"},
    *{".jxl", ".jxr", ".psd", ".psb", ".xcf", ".svg", ".eps", ".exr", ".hdr", ".tga", ".dds", ".qoi", ".fits", ".fit"},
    *{".ico", ".icns", ".cur", ".pcx", ".dcx", ".sgi", ".ras", ".xbm", ".xpm", ".blp", ".wmf", ".emf", ".flif"},
}
"""Suffixes of pictures in formats that are not opened: cameras' raw files, editors' documents, old formats."""
HEIF_PACKAGE = 'pillow-heif: pip install "renoise[heif]"'


@cache
def formats() -> tuple[str, ...]:
    """Returns Pillow's names of the formats that are opened, those with the clearest signatures first.

    HEIC, the format of iPhones, is among them where the package `pillow-heif` is installed.
    """
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    return tuple(name for name in OPENED if name in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """Returns the suffixes of image files that are opened, in lower case and with the dot."""
    readable = {*formats(), "MPO"}  # Pillow reads MPO through its JPEG plugin
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def picture_suffixes() -> frozenset[str]:
    """Returns the suffixes of all pictures, those that cannot be opened too."""
    return suffixes() | HEIF_SUFFIXES | OTHER_SUFFIXES


def not_opened(found: Iterable[str]) -> str:
    """Returns what to say of pictures that cannot be opened; an empty string where there are none.

    Args:
        found: Suffixes of files, in lower case.

    Example:
        >>> from renoise.data.formats import not_opened
        >>> not_opened([".jpg", ".psd", ".dng", ".dng"])
        '2 .dng and 1 .psd files (convert them to JPEG or PNG)'
    """
    counts = Counter(suffix for suffix in found if suffix in picture_suffixes() - suffixes())
    heif = {suffix: count for suffix, count in counts.items() if suffix in HEIF_SUFFIXES}
    others = {suffix: count for suffix, count in counts.items() if suffix not in HEIF_SUFFIXES}
    parts = [(heif, f"install {HEIF_PACKAGE}"), (others, "convert them to JPEG or PNG")]
    return ", ".join(f"{_listed(group)} ({advice})" for group, advice in parts if group)


def _listed(counts: dict[str, int]) -> str:
    *first, last = [f"{count} {suffix}" for suffix, count in sorted(counts.items())]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{names} {'file' if sum(counts.values()) == 1 else 'files'}"
