"""Colors of an image in any mode as sRGB over white."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageCms

from renoise.data.files import UnreadableImageError
from renoise.data.icc_profiles import ProfileError, conversion

SRGB_GAMMA = 1 / 2.2
SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""What the chunks gAMA and cHRM of a PNG file contain for sRGB: of white, red, green and blue, x and y."""
SRGB_CODE_POINTS = (b"\1\x0d\0\1", b"\1\1\0\1")
"""Content of the chunk cICP for sRGB, and for BT.709, whose pictures are shown as sRGB."""
TOLERANCE = 0.01
UNCALIBRATED = 0xFFFF
BAND = 2**22
"""Pixels that are converted at a time."""


def color_conversion(image: Image.Image) -> tuple[ImageCms.ImageCmsTransform | None, str | None]:
    """Returns what converts the image's colors to sRGB, None where they are, and what the user should know of it.

    The ICC profile is used. Other descriptions of colors are not, because most programs ignore them.

    Args:
        image: The image, as opened.
    """
    profile = image.info.get("icc_profile")
    if profile:
        try:
            return conversion(profile, image.mode), None
        except ProfileError as error:
            return None, f"its ICC profile is ignored, so colors are read as sRGB: {error}"
    described = _other_description(image)
    return None, described and f"it has no ICC profile, so colors are read as sRGB, although {described}"


def _other_description(image: Image.Image) -> str | None:
    """Returns which other colors than sRGB the image claims to have, if any."""
    code_points, gamma = image.info.get("cicp"), image.info.get("gamma")
    chromaticities = image.info.get("chromaticity") or SRGB_CHROMATICITIES
    if code_points and code_points not in SRGB_CODE_POINTS:
        return f"its chunk cICP says {list(code_points)}"
    if "srgb" in image.info:
        return None
    if gamma and abs(gamma - SRGB_GAMMA) > TOLERANCE:
        return f"its chunk gAMA says {gamma:g}"
    if max(abs(a - b) for a, b in zip(chromaticities, SRGB_CHROMATICITIES, strict=False)) > TOLERANCE:
        return "its chunk cHRM says otherwise"
    if image.format in ("JPEG", "MPO", "TIFF") and _exif_says_adobe_rgb(image):
        return "its EXIF data says Adobe RGB"
    return None


def _exif_says_adobe_rgb(image: Image.Image) -> bool:
    """Returns whether a camera saved the photo in Adobe RGB in the way of DCF 2.0: uncalibrated, with the index R03."""
    try:
        exif = image.getexif()
        color_space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # damaged metadata; Pillow raises almost any type
        return False
    return color_space == UNCALIBRATED and str(index).startswith("R03")


def reduced_to_srgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None, factor: int) -> Image.Image:
    """Returns an image in sRGB over white, `factor` times smaller, rounded up. Each pixel is the mean of a square.

    It is converted band by band, so that it takes little memory beside the image itself.

    Args:
        image: The image.
        transform: What converts its colors, see `color_conversion`.
        factor: A whole number, 1 for the same size.

    Raises:
        UnreadableImageError: The image has no defined white.
    """
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    height = max(1, BAND // (image.width * factor)) * factor
    for top in range(0, image.height, height):
        band = image.crop((0, top, image.width, min(top + height, image.height)))
        reduced.paste(_to_srgb(band, transform).reduce(factor), (0, top // factor))
    return reduced


def _to_srgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImageError("floating-point image: which value is white is not defined")
    if image.mode.startswith("I"):
        image = _to_8_bit(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if transform is not None:
        image = transform.apply(image.convert(transform.input_mode))
    image = image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Maps gray values from 0…65535 to 0…255. Pillow's own conversion would clip at 255."""
    values = np.asarray(image, dtype=np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"gray image with values {values.min()} to {values.max()}, beyond 16 bits")
    transparent = values == image.info.get("transparency")
    return Image.fromarray(np.where(transparent, 255, (values + 128) // 257).astype(np.uint8))
