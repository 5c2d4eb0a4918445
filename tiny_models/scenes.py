"""The miniature world: "a {subject} on a {pattern} {color} background", every detail under our control.

Because a scene is drawn from a handful of numbers, every edit has a known right answer: the same numbers with another
subject (`dataclasses.replace(scene, subject="dog")`) are the ground truth of a prompt swap.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
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


@dataclass(frozen=True)
class Scene:
    """One picture of the world, as the numbers that it is drawn from.

    Lengths are in pixels of the doubled canvas (the picture is drawn at twice its size and shrunk) or, where named so,
    in shares of it.
    """

    subject: str
    color: str
    pattern: str
    tint: tuple[int, int, int]
    """Added to the color, each channel in [-15, 15]."""
    gradient: tuple[float, float]
    """Brightness added from the middle to the bottom and right edges, in [-18, 18]."""
    period: int
    phase: int
    angle: float
    """Direction of stripes, in radians."""
    subject_size: float
    """Longest side of the subject as a share of the canvas, in [0.55, 0.75]."""
    offset: tuple[float, float]
    """Where the subject's middle lies from the canvas's, as shares of the canvas, each in [-0.1, 0.1]."""

    @property
    def caption(self) -> str:
        """The prompt that describes the scene."""
        return f"a {self.subject} on a {self.pattern} {self.color} background"

    def draw(self, size: int = 64) -> Image.Image:
        """The scene as an RGB image of `size` x `size` pixels."""
        canvas = self._background(2 * size)
        canvas.alpha_composite(*self._placed_subject(2 * size))
        return canvas.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)

    def mask(self, size: int = 64) -> npt.NDArray[np.float32]:
        """How much of each pixel the subject covers, [size, size] in [0, 1]."""
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
    """The subject's face with transparency, as `sprites/` holds it (see the license there)."""
    with Image.open(SPRITES / f"{subject}.png") as picture:
        return picture.convert("RGBA")


def random_scene(rng: random.Random) -> Scene:
    """A scene with everything drawn evenly from its range."""
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
    """`count` scenes of the stream `seed`; other seeds are other scenes. Models train on `TRAINING_SEED` alone."""
    rng = random.Random(seed)
    return [random_scene(rng) for _ in range(count)]


def with_other_subjects(scenes: list[Scene], seed: int) -> Iterator[Scene]:
    """The same scenes, each under a subject that is not its own: the right answers to an animal swap."""
    rng = random.Random(seed)
    for scene in scenes:
        yield replace(scene, subject=rng.choice([name for name in SUBJECTS if name != scene.subject]))


TRAINING_SEED = 0
"""The stream that models train on; evaluation draws from any other."""
