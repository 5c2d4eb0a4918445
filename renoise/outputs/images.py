"""Tensors as pictures, and pictures as the content of PNG files."""

from __future__ import annotations

import io

import torch
from PIL import Image, PngImagePlugin

PERCEPTUAL = b"\0"
"""The rendering intent that the chunk sRGB names."""


def to_pil(pixels: torch.Tensor) -> Image.Image:
    """Returns an image as an RGB picture of 8 bits.

    Args:
        pixels: [3, H, W] in [0, 1]. Values outside are clipped.

    Example:
        >>> import torch
        >>> from renoise.outputs.images import to_pil
        >>> to_pil(torch.full((3, 48, 64), 0.5)).size
        (64, 48)
    """
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def to_png(image: Image.Image) -> bytes:
    """Returns a picture as the content of a PNG file that says that its colors are sRGB.

    Args:
        image: The picture.
    """
    buffer = io.BytesIO()
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", PERCEPTUAL)
    image.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()
