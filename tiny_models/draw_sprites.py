"""Draws `sprites/` from the font Noto Color Emoji: `python -m tiny_models.draw_sprites`.

Run it only after adding a subject. It needs the font (Debian's package `fonts-noto-color-emoji`). The sprites are
committed, so that scenes look the same on every machine.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from tiny_models.scenes import SPRITES, SUBJECTS

FACES = dict(zip(SUBJECTS, "🐱🐶🦊🐻🐼🐨🐯🦁🦝🐰🐺🐸🐷🐮🐵🐭", strict=True))
BITMAP_SIZE = 109
"""The only size in which the font has bitmaps."""


def main() -> None:
    """Writes one cropped RGBA picture per subject."""
    font = ImageFont.truetype("NotoColorEmoji.ttf", BITMAP_SIZE)
    for subject, face in FACES.items():
        canvas = Image.new("RGBA", (140, 140), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((2, 2), face, font=font, embedded_color=True)
        canvas.crop(canvas.getbbox()).save(SPRITES / f"{subject}.png", optimize=True)


if __name__ == "__main__":
    main()
