from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tiny_models.scenes import COLORS, PATTERNS, SUBJECTS, Scene, random_scenes, with_other_subjects

SCENES = random_scenes(12, seed=3)
RESIZE_SUPPORT = 3
"""Radius in pixels of the Lanczos filter that halves the canvas."""


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(scene.draw(), dtype=np.int16)


def grown(mask: np.ndarray) -> np.ndarray:
    """Returns where a pixel of the mask is within the radius of the resize filter."""
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * RESIZE_SUPPORT + 1))) > 0


def test_the_same_seed_gives_the_same_scenes() -> None:
    assert random_scenes(12, seed=3) == SCENES
    assert random_scenes(20, seed=3)[:12] == SCENES
    again = [pixels(scene) for scene in random_scenes(12, seed=3)]
    assert (np.stack(again) == np.stack([pixels(scene) for scene in SCENES])).all()


def test_different_seeds_give_different_scenes() -> None:
    assert not set(random_scenes(200, seed=4)) & set(random_scenes(200, seed=3))


def test_random_scenes_have_every_subject_color_and_pattern() -> None:
    scenes = random_scenes(400, seed=3)
    assert {scene.subject for scene in scenes} == set(SUBJECTS)
    assert {scene.color for scene in scenes} == set(COLORS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_an_edit_changes_nothing_outside_the_two_subjects(scene: Scene) -> None:
    for edited in with_other_subjects([scene] * 3, seed=1):
        changed = (pixels(scene) != pixels(edited)).any(axis=-1)
        allowed = grown((scene.mask() > 0) | (edited.mask() > 0))
        assert edited.subject != scene.subject
        assert changed.any()
        assert not (changed & ~allowed).any()
        assert not allowed.all()


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_the_mask_covers_what_hides_the_background(scene: Scene) -> None:
    mask = scene.mask()
    other = dataclasses.replace(scene, color="blue" if scene.color != "blue" else "red", pattern="plain")
    assert (mask.shape, mask.dtype) == ((64, 64), np.float32)
    assert (mask.min(), mask.max()) == (0, 1)
    assert (other.mask() == mask).all()
    change = np.abs(pixels(scene) - pixels(other)).max(axis=-1)
    assert change[~grown(mask < 1)].max(initial=0) <= 1  # a mask of 254.9 / 255 is rounded to 1
    assert change[~grown(mask > 0)].min() > 1


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_backgrounds_are_close_to_their_color(scene: Scene) -> None:
    assert max(map(abs, scene.tint)) <= 15
    assert max(map(abs, scene.gradient)) <= 18
    background = pixels(scene)[~grown(scene.mask() > 0)]
    color = np.array(COLORS[scene.color]) + np.array(scene.tint)
    slope, ringing = sum(map(abs, scene.gradient)), 8  # the filter overshoots at the edges of a pattern
    brightest = color + slope + (0 if scene.pattern == "plain" else 38)
    assert (background >= np.clip(color - slope - ringing, 0, 255)).all()
    assert (background <= np.clip(brightest + ringing, 0, 255)).all()


def test_patterns_are_visible() -> None:
    for scene in SCENES:
        plain = dataclasses.replace(scene, pattern="plain")
        brightened = (pixels(scene) - pixels(plain)).max()
        assert brightened == 0 if scene.pattern == "plain" else brightened >= 15  # less where a channel is clipped


def test_scenes_and_masks_can_have_any_size() -> None:
    assert SCENES[0].draw(96).size == (96, 96)
    assert SCENES[0].mask(96).shape == (96, 96)


def test_the_caption_names_subject_pattern_and_color() -> None:
    scene = dataclasses.replace(SCENES[0], subject="fox", color="pink", pattern="dotted")
    assert scene.caption == "a fox on a dotted pink background"
