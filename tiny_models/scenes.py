"""The miniature world: scenes of "a {subject} on a {pattern} {color} background".

A scene is drawn from a few numbers, so every edit has a known correct result. The ground truth of a prompt edit is the
same scene with another subject: `dataclasses.replace(scene, subject="dog")`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SUBJECTS = (
    *("cat", "dog", "fox", "bear", "panda", "koala", "tiger", "lion"),
    *("raccoon", "rabbit", "wolf", "frog", "pig", "cow", "monkey", "mouse"),
)
COLORS = {
    "red": (200, 50, 50),
    "green": (60, 160, 70),
    "blue": (60, 90, 200),
    "yellow": (230, 205, 70),
    "purple": (130, 70, 170),
    "orange": (235, 140, 50),
    "pink": (240, 160, 190),
    "gray": (140, 140, 140),
}
PATTERNS = ("plain", "striped", "dotted", "checkered")
SPRITES = Path(__file__).parent / "sprites"
SIDE = 64
"""Height and width in pixels of the images that the models are trained on."""
TRAINING_SEED = 0
"""Seed of the scenes that models are trained on. Evaluation uses other seeds."""


@dataclass(frozen=True)
class Scene:
    """One image of the world, as the numbers that it is drawn from.

    It is drawn on a canvas of twice its size, which is then halved.

    Args:
        subject: One of `SUBJECTS`.
        color: One of `COLORS`.
        pattern: One of `PATTERNS`.
        tint: Added to the color's channels, each in [-15, 15].
        gradient: Brightness added at the bottom and the right edge, and subtracted at the opposite edge, in [-18, 18].
        period: Period of the pattern, in pixels of the canvas.
        phase: Shift of the pattern, in pixels of the canvas.
        angle: Direction of stripes, in radians.
        subject_size: Longest side of the subject as a share of the canvas, in [0.55, 0.75].
        offset: From the canvas's center to the subject's, right and down, as shares of the canvas in [-0.1, 0.1].
    """

    subject: str
    color: str
    pattern: str
    tint: tuple[int, int, int]
    gradient: tuple[float, float]
    period: int
    phase: int
    angle: float
    subject_size: float
    offset: tuple[float, float]

    @property
    def caption(self) -> str:
        """The prompt that describes the scene."""
        return f"a {self.subject} on a {self.pattern} {self.color} background"

    def draw(self, size: int = SIDE) -> Image.Image:
        """Returns the scene as an RGB image of `size` x `size` pixels."""
        canvas = self._background(2 * size)
        canvas.alpha_composite(*self._placed_subject(2 * size))
        return canvas.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)

    def mask(self, size: int = SIDE) -> npt.NDArray[np.float32]:
        """Returns the share of each pixel that the subject covers, float32 [size, size] in [0, 1]."""
        canvas = Image.new("RGBA", (2 * size, 2 * size))
        canvas.alpha_composite(*self._placed_subject(2 * size))
        alpha = canvas.getchannel("A").resize((size, size), Image.Resampling.BOX)
        return np.asarray(alpha).astype(np.float32) / np.float32(255)

    def _background(self, canvas: int) -> Image.Image:
        ramp = np.linspace(-1, 1, canvas)
        pixels = np.ones((canvas, canvas, 3)) * (np.array(COLORS[self.color]) + np.array(self.tint))
        pixels += self.gradient[0] * ramp[:, None, None] + self.gradient[1] * ramp[None, :, None]
        pixels[self._pattern_mask(canvas)] += 38
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGBA")

    def _pattern_mask(self, canvas: int) -> npt.NDArray[np.bool_]:
        y, x = np.mgrid[:canvas, :canvas]
        period, phase = self.period, self.phase
        if self.pattern == "striped":
            return np.asarray((x * math.cos(self.angle) + y * math.sin(self.angle) + phase) % period < period / 2)
        if self.pattern == "dotted":
            from_center = ((x + phase) % period - period / 2) ** 2 + ((y + phase) % period - period / 2) ** 2
            return np.asarray(from_center < (period * 0.3) ** 2)
        if self.pattern == "checkered":
            return np.asarray(((x + phase) // (period // 2) + (y + phase) // (period // 2)) % 2 == 0)
        return np.zeros((canvas, canvas), dtype=bool)

    def _placed_subject(self, canvas: int) -> tuple[Image.Image, tuple[int, int]]:
        picture = sprite(self.subject)
        scale = self.subject_size * canvas / max(picture.size)
        picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.LANCZOS)
        x = int((canvas - picture.width) / 2 + self.offset[0] * canvas)
        y = int((canvas - picture.height) / 2 + self.offset[1] * canvas)
        return picture, (max(x, 0), max(y, 0))


@cache
def sprite(subject: str) -> Image.Image:
    """Returns the subject's face from `sprites/`, with transparency."""
    with Image.open(SPRITES / f"{subject}.png") as picture:
        return picture.convert("RGBA")


def random_scene(rng: random.Random) -> Scene:
    """Returns a scene whose numbers are uniform in their ranges."""
    period = rng.choice((16, 20, 24))
    return Scene(
        subject=rng.choice(SUBJECTS),
        color=rng.choice(list(COLORS)),
        pattern=rng.choice(PATTERNS),
        tint=(rng.randint(-15, 15), rng.randint(-15, 15), rng.randint(-15, 15)),
        gradient=(rng.uniform(-18, 18), rng.uniform(-18, 18)),
        period=period,
        phase=rng.randint(0, period),
        angle=rng.choice((0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)),
        subject_size=rng.uniform(0.55, 0.75),
        offset=(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)),
    )


def random_scenes(count: int, seed: int) -> list[Scene]:
    """Returns the first `count` scenes of a seed. Models are trained on `TRAINING_SEED` only."""
    rng = random.Random(seed)
    return [random_scene(rng) for _ in range(count)]


def with_other_subjects(scenes: Sequence[Scene], seed: int) -> list[Scene]:
    """Returns the same scenes, each with another random subject: the correct results of edits that swap animals."""
    rng = random.Random(seed)
    return [
        replace(scene, subject=rng.choice([name for name in SUBJECTS if name != scene.subject])) for scene in scenes
    ]
