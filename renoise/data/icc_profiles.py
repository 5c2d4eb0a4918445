"""Colors of images that have an ICC profile, converted to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode of the colors that a profile describes, by the profile's name of its color space."""
ACCEPTED = {
    **dict.fromkeys(("L", "LA", "1", "I", "I;16", "I;16B", "I;16L"), ("RGB", "GRAY")),
    **dict.fromkeys(("RGB", "RGBA", "P", "PA", "RGBX", "YCbCr"), ("RGB",)),
    "CMYK": ("CMYK",),
}
"""Color spaces of the profiles that can belong to an image, by the image's mode."""
LEVELS = 17
"""Levels of each channel at which a profile is compared with sRGB."""


class ProfileError(ValueError):
    """A profile cannot be used. The message says why."""


def conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns what converts an image with an ICC profile to sRGB, or None where its colors are sRGB already.

    It is colorimetric relative to white, with black point compensation, as in image editors.

    Args:
        profile: The profile's bytes.
        mode: Pillow's mode of the image.

    Raises:
        ProfileError: The profile is damaged, or describes other colors than those of the image.
    """
    if mode == "LAB":  # its colors are absolute
        return None
    space, transform = _to_srgb(profile)
    if space not in ACCEPTED.get(mode, ()):
        raise ProfileError(f"it describes {space or 'unknown'} colors, and the image has {mode}")
    return transform


@lru_cache(maxsize=16)  # the photographs of one camera have one profile
def _to_srgb(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Returns the color space that a profile describes, and the conversion to sRGB; None where it changes nothing."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        if space not in MODES:
            return space, None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            MODES[space],
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError) as error:
        raise ProfileError(f"it is damaged ({error})") from error
    return space, None if space != "CMYK" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Returns whether a conversion of RGB or gray changes no color by more than rounding does."""
    levels = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    if transform.input_mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
        probe = Image.fromarray(colors.reshape(LEVELS, -1, 3))
    converted = transform.apply(probe)
    changes = np.asarray(converted, dtype=int) - np.asarray(probe.convert("RGB"), dtype=int)
    return bool(abs(changes).max() <= 1)
