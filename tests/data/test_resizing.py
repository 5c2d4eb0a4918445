from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from renoise.data.resizing import Fit, bucket, buckets, place, shown, time_ids

sides = st.integers(1, 3000)
each_fit = pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])


# What is shown


@given(sides, sides, st.integers(1, 1024), st.integers(1, 1024))
def test_a_crop_is_the_largest_part_of_the_frames_shape_in_the_middle(
    height: int, width: int, tall: int, wide: int
) -> None:
    left, top, right, bottom = shown(height, width, (tall, wide), "crop")
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == width or bottom - top == height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    # As near to the shape as whole pixels allow.
    across, down = right - left, bottom - top
    assert (
        abs(across - down * wide / tall) <= 0.5 + 1e-6
        or abs(down - across * tall / wide) <= 0.5 + 1e-6
        or 1 in (across, down)
    )


def test_whatever_is_not_cropped_shows_all_of_the_image() -> None:
    for fit in ("stretch", "pad"):
        assert shown(30, 70, (8, 8), fit) == (0, 0, 70, 30)


@each_fit
def test_every_fit_fills_the_frame(fit: Fit) -> None:
    image = Image.new("RGB", (30, 70))
    assert place(image.crop(shown(70, 30, (16, 24), fit)), (16, 24), fit).size == (24, 16)


def test_stretched_is_out_of_shape_and_padded_has_white_margins() -> None:
    image = Image.new("RGB", (40, 20), "red")
    stretched, padded = (np.asarray(place(image, (16, 16), fit)) for fit in ("stretch", "pad"))
    assert (stretched == (255, 0, 0)).all()
    assert (padded[4:12] == (255, 0, 0)).all()
    assert (padded[:4] == 255).all()
    assert (padded[12:] == 255).all()


# What SDXL is told of it


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (600, 600, (600, 600, 0, 0, 512, 512)),
        # 2048 wide at a height of 512, of which 768 are cut off on either side
        (768, 3072, (768, 3072, 0, 768, 512, 512)),
        (3072, 768, (3072, 768, 768, 0, 512, 512)),
        # enlarged to 512 × 1024
        (50, 100, (50, 100, 0, 256, 512, 512)),
        # 513.7 and 515.4 wide, counted as 513 and 515: a pixel that cannot be halved stays on the far side
        (300, 301, (300, 301, 0, 0, 512, 512)),
        (300, 302, (300, 302, 0, 1, 512, 512)),
    ],
)
def test_time_ids_are_the_original_size_the_crops_corner_and_the_target(
    height: int, width: int, expected: tuple[int, ...]
) -> None:
    assert time_ids(height, width, (512, 512)) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([8, 64, 512, 1024]))
def test_the_crops_corner_is_within_a_pixel_of_where_the_square_is_cut(
    height: int, width: int, resolution: int
) -> None:
    scale = resolution / min(height, width)
    _, _, top, left, *_ = time_ids(height, width, (resolution, resolution))
    for corner, side in ((top, height), (left, width)):
        assert -1e-6 <= (side * scale - resolution) / 2 - corner < 1


@pytest.mark.parametrize(("frame", "corner"), [((384, 640), (128, 0)), ((512, 512), (0, 0)), ((640, 320), (0, 160))])
def test_time_ids_of_a_frame_of_another_shape_have_its_size_and_its_crop(
    frame: tuple[int, int], corner: tuple[int, int]
) -> None:
    assert time_ids(1000, 1000, frame) == (1000, 1000, *corner, *frame)


def test_where_nothing_is_cropped_the_corner_is_the_images_own() -> None:
    for fit in ("stretch", "pad"):
        assert time_ids(300, 700, (512, 512), fit) == (300, 700, 0, 0, 512, 512)


# Buckets


@pytest.mark.parametrize(
    ("resolution", "multiple", "step"), [(1024, 8, 64), (512, 8, 32), (64, 4, 4), (32, 4, 4), (520, 8, 32)]
)
def test_buckets_have_about_as_many_pixels_as_the_square_and_sides_that_the_model_takes(
    resolution: int, multiple: int, step: int
) -> None:
    frames = buckets(resolution, multiple)
    assert len(frames) == len(set(frames))
    assert frames[0] == (resolution, resolution)
    for height, width in frames:
        assert height % multiple == width % multiple == 0
        assert height * width <= resolution**2
        assert height * width >= resolution**2 - max(height, width) * step
        assert (width, height) in frames
        assert max(height, width) <= 2 * resolution


def test_sdxls_own_buckets_are_among_them() -> None:
    assert {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640), (640, 1536)} <= set(buckets(1024, 8))


@given(sides, sides)
def test_an_image_goes_to_the_bucket_nearest_in_shape(height: int, width: int) -> None:
    found = bucket(height, width, 512, 8)
    assert found in buckets(512, 8)
    away = [abs(math.log(tall / wide) - math.log(height / width)) for tall, wide in buckets(512, 8)]
    assert abs(math.log(found[0] / found[1]) - math.log(height / width)) == pytest.approx(min(away))
