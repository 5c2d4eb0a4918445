"""Which image formats are opened, and the file name suffixes that belong to them."""

from __future__ import annotations

from functools import cache

from PIL import Image

NOT_OPENED = {
    "EPS",  # runs Ghostscript
    "IPTC",  # opens any image inside it, EPS too
    "BUFR", "GRIB", "HDF5", "WMF",  # Pillow leaves their pixels to handlers that other packages register
    "MPEG",  # recognized, never decoded
}  # fmt: skip


@cache
def formats() -> tuple[str, ...]:
    """Returns Pillow's names of the formats that are opened, those with the clearest signatures first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_OPENED)


@cache
def suffixes() -> frozenset[str]:
    """Returns the suffixes of image files, in lower case and with the dot."""
    readable = {*formats(), "MPO"}  # Pillow reads MPO through its JPEG plugin
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)
