"""Small ICC profiles, written byte by byte, and the colors that they describe, computed without them.

Source: ICC.1:2004-10 (profile version 4.2), sections 7 to 10.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

D50, D65 = (0.9642, 1.0, 0.8249), (0.9505, 1.0, 1.0891)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class Space(NamedTuple):
    """A space of RGB colors: x and y of red, green and blue, XYZ of white, and the exponent of its curves."""

    primaries: tuple[tuple[float, float], ...]
    white: tuple[float, float, float]
    gamma: float | None
    """None is the curve of sRGB."""


SRGB = Space(((0.64, 0.33), (0.3, 0.6), (0.15, 0.06)), D65, None)
ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), D65, 563 / 256)
DISPLAY_P3 = Space(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), D65, None)
PROPHOTO = Space(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), D50, 1.8)


def to_xyz(space: Space) -> np.ndarray:
    """Returns the matrix from linear RGB to XYZ, whose columns add up to white."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in space.primaries]).T
    return columns * np.linalg.solve(columns, np.array(space.white))


def adaptation(source: Sequence[float], target: Sequence[float]) -> np.ndarray:
    """Returns Bradford's matrix from one white to another."""
    scale = (BRADFORD @ np.array(target)) / (BRADFORD @ np.array(source))
    return np.linalg.inv(BRADFORD) @ (scale[:, None] * BRADFORD)


def srgb_levels(space: Space, colors: np.ndarray) -> np.ndarray:
    """Returns colors [N, 3] in 0…255 of a space as levels of sRGB, by its definition (IEC 61966-2-1)."""
    values = colors / 255
    curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = curve if space.gamma is None else values**space.gamma
    xyz = adaptation(space.white, D65) @ to_xyz(space) @ linear.T
    linear = (np.linalg.inv(to_xyz(SRGB)) @ xyz).T.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded * 255


def rgb_profile(space: Space) -> bytes:
    """Returns a profile of three primaries and a curve."""
    matrix = adaptation(space.white, D50) @ to_xyz(space)
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(space.gamma))
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    """Returns a profile of gray levels with a curve."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(printed: Callable[[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """Returns a profile of four inks, which interpolates between the sixteen colors of full inks.

    Args:
        printed: Returns the sRGB color of paper with these inks, each 0 or 1.
    """
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(srgb, lab, "RGB", "LAB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    corners = b"".join(to_lab.apply(Image.new("RGB", (1, 1), printed(*each))).tobytes() for each in inks)
    # Pillow's a and b are signed; those of the table are 128 for zero, as here.
    table = bytes(value ^ 0x80 if position % 3 else value for position, value in enumerate(corners))
    identity = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * ramp + table + 3 * ramp
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _profile(kind: bytes, colors: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = "t".encode("utf-16-be")
    multi = b"mluc" + bytes(4) + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    tags = {b"desc": multi, b"cprt": multi, b"wtpt": _xyz(D50), **tags}
    position, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", position + len(body), len(content))
        body += padded
    size = position + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04200000, kind, colors, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(gamma)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
