"""Draws `sprites/` from the Noto Color Emoji font: `python -m tiny_models.draw_sprites`.

Only whoever adds a subject needs this (and Debian's `fonts-noto-color-emoji`): the sprites are committed, so that the
world looks the same everywhere and no machine needs the font.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from tiny_models.scenes import SPRITES, SUBJECTS

FACES = dict(zip(SUBJECTS, "🐱🐶🦊🐻🐼🐨🐯🦁🦝🐰🐺🐸🐷🐮🐵🐭", strict=True))
BITMAP_SIZE = 109
"""The one size that the font's bitmaps come in."""


def main() -> None:
    """Writes one cropped RGBA picture per subject."""
    font = ImageFont.truetype("NotoColorEmoji.ttf", BITMAP_SIZE)
    for subject, face in FACES.items():
        canvas = Image.new("RGBA", (140, 140), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((2, 2), face, font=font, embedded_color=True)
        canvas.crop(canvas.getbbox()).save(SPRITES / f"{subject}.png", optimize=True)


if __name__ == "__main__":
    main()
